"""The files of `infra/` against the code: variables, ports, paths, users, times. And against what the platforms accept, offline."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # has no types
import pytest

from service.boot.stopping import Budget
from service.configuration.table import SECRETS
from service.settings import SETTINGS, load
from tests.infra.files import (
    INFRA,
    Deployment,
    compose_services,
    deployments,
    ecs,
    ecs_template,
    fly_toml,
    image,
    kubernetes_objects,
    texts,
)
from tests.infra.ours import routes, setting_names
from tests.project import ROOT

MARGIN_S = 15
"""How much larger the grace has to be than the budget: the platform's own work, and a process that is late to hear."""
FLY_GRACE_MAX_S, ECS_GRACE_MAX_S = 300, 120
KUBERNETES = ("1.30", "1.37")
"""The oldest with `ReadWriteOncePod` and all else that is used, and the newest that the package of schemas has."""
OURS = re.compile(r"ISCC_SEARCH_[A-Z_]+")
DIGEST_OR_VERSION = re.compile(r".+/[^:@]+(:[0-9][^:]*|@sha256:[0-9a-f]{64})")
BUCKET = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
PLACES = {"ISCC_SEARCH_SNAPSHOT_URL": "s3://bucket/tidepool", "ISCC_SEARCH_SNAPSHOT_MISSING": "fail"}
"""What CloudFormation puts there."""
EACH = pytest.mark.parametrize("deployment", deployments(), ids=lambda deployment: deployment.name)


@EACH
def test_the_environment_is_one_that_the_service_accepts(deployment: Deployment) -> None:
    """No name is unknown, no value is refused, nothing is worth a notice; a key is needed to listen to other machines."""
    given = {
        name: value if isinstance(value, str) else PLACES.get(name, BUCKET.get(name, "")) for name, value in deployment.environment.items()
    }
    settings, notices = load({**BUCKET, **given}, Path("/nonexistent/.env"))
    assert notices == []
    assert (settings.host, settings.directory) == ("0.0.0.0", Path(deployment.directory))
    assert settings.require_secret
    assert settings.api_secret


@EACH
def test_the_grace_is_larger_than_the_budget(deployment: Deployment) -> None:
    """Otherwise the platform kills while the last writes are on their way to the bucket."""
    budget_s = int(deployment.environment["ISCC_SEARCH_DRAIN_SECONDS"])
    assert deployment.taken_s + budget_s + MARGIN_S <= deployment.grace_s


@EACH
def test_ports_paths_user_and_signal_are_those_of_the_image(deployment: Deployment) -> None:
    """One port everywhere; probes that exist; the disk where the image expects it; the user who owns it; the signal that drains."""
    assert deployment.ports == {int(deployment.environment["ISCC_SEARCH_PORT"])} == {image().port}
    assert set(deployment.probes.values()) <= routes()
    assert {deployment.probes.get("ready", "/readyz"), deployment.probes.get("alive", "/healthz")} == {"/readyz", "/healthz"}
    assert deployment.directory == image().volume
    assert deployment.user == image().user == "10001:10001"
    assert deployment.stop_signal == image().stop_signal == "SIGTERM"
    assert deployment.command == image().command
    assert DIGEST_OR_VERSION.fullmatch(deployment.image), "a moving tag makes a restart an upgrade"


def test_the_grace_is_as_long_as_somebody_has_to_be_told() -> None:
    """An interval of Fly.io's check, and what Kubernetes needs. ECS tells the balancer before the signal: a grace would be idle."""
    (check,) = fly_toml()["http_service"]["checks"]
    told_s = {"fly": int(check["interval"].removesuffix("s")), "kubernetes": 5}
    for deployment in deployments():
        grace_s = int(deployment.environment.get("ISCC_SEARCH_DRAIN_GRACE_SECONDS", "0"))
        least_s = told_s.get(deployment.name, 0)
        assert least_s <= grace_s + deployment.taken_s <= 2 * least_s, deployment.name


def test_every_name_in_every_file_is_a_setting() -> None:
    """Also in comments and guides: whoever copies it must not find that it does nothing."""
    named = {(path.name, name) for path, text in texts().items() if path.suffix != ".json" for name in OURS.findall(text)}
    assert named
    assert {one for one in named if one[1] not in setting_names()} == set()


def test_every_directory_has_a_guide_of_a_page() -> None:
    """What to change, how to deploy, how to see that it works, how to restore, what it costs."""
    for name in ("fly", "ecs", "kubernetes", "compose"):
        guide = (INFRA / name / "README.md").read_text("utf-8")
        assert len(guide.splitlines()) <= 60, name
        for words in ("What to change", "How to deploy", "How to see that it works", "How to restore", "What it costs"):
            assert f"## {words}" in guide, (name, words)


def test_fly_replaces_the_machine_before_it_starts_another() -> None:
    """One volume, one writer; never suspended; what may be long may be long."""
    said = fly_toml()
    assert said["deploy"]["strategy"] == "rolling"
    assert said["http_service"]["auto_stop_machines"] == "off"
    assert said["kill_timeout"] <= FLY_GRACE_MAX_S
    assert said["metrics"]["path"] in routes()
    assert said["http_service"]["concurrency"]["hard_limit"] <= int(SETTINGS["MAX_REQUESTS"].default or 0)
    assert not [name for name in said["env"] if name.startswith("FLY_")]
    assert not {f"ISCC_SEARCH_{name}" for name in SECRETS} & said["env"].keys(), "secrets are set with `fly secrets`"


def test_the_template_passes_the_linter() -> None:
    """cfn-lint with the schemas that it brings: types, references, allowed values, also what it only advises."""
    linter = Path(sys.executable).parent / "cfn-lint"
    command: list[str | Path] = [linter, "--include-checks", "I", "--regions", "eu-central-1", "--template", INFRA / "ecs/template.yaml"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_ecs_never_runs_two_tasks() -> None:
    """Stop, then start; no second task for the sake of balance; a deployment that cannot start goes back."""
    service = ecs_template()["Resources"]["Service"]["Properties"]
    how = service["DeploymentConfiguration"]
    assert (service["DesiredCount"], how["MinimumHealthyPercent"], how["MaximumPercent"]) == (1, 0, 100)
    assert service["AvailabilityZoneRebalancing"] == "DISABLED"
    assert how["DeploymentCircuitBreaker"] == {"Enable": True, "Rollback": True}


def test_ecs_stops_in_time_and_keeps_the_bucket() -> None:
    """No request has longer at the balancer than in the process, Fargate's most is not exceeded, and no stack takes the bucket with it."""
    said = ecs_template()["Resources"]
    (container,) = said["TaskDefinition"]["Properties"]["ContainerDefinitions"]
    delay = {one["Key"]: one["Value"] for one in said["TargetGroup"]["Properties"]["TargetGroupAttributes"]}
    budget = Budget(float(ecs().environment["ISCC_SEARCH_DRAIN_SECONDS"]), grace_s=0)
    assert container["StopTimeout"] <= ECS_GRACE_MAX_S
    assert 0 < int(delay["deregistration_delay.timeout_seconds"]) <= budget.requests_s
    assert said["Bucket"]["DeletionPolicy"] == said["Bucket"]["UpdateReplacePolicy"] == "Retain"
    rules = said["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    assert all(set(rule) <= {"Id", "Status", "AbortIncompleteMultipartUpload"} for rule in rules), "nothing may expire by age"


def test_the_task_may_do_no_more_than_it_needs() -> None:
    """Its own prefix of its own bucket, and no wildcard among the actions."""
    (policy,) = ecs_template()["Resources"]["TaskRole"]["Properties"]["Policies"]
    statements = policy["PolicyDocument"]["Statement"]
    actions = {action for one in statements for action in one["Action"]}
    assert actions == {
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    }
    assert statements[1]["Resource"] == {"Fn::Sub": "${Bucket.Arn}/tidepool/*"}
    environment = {
        one["Name"]: one["Value"]
        for one in ecs_template()["Resources"]["TaskDefinition"]["Properties"]["ContainerDefinitions"][0]["Environment"]
    }
    assert environment["ISCC_SEARCH_SNAPSHOT_URL"] == {"Fn::Sub": "s3://${Bucket}/tidepool"}


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_objects_follow_the_schemas(version: str) -> None:
    """Strictly: a misspelt member is an error."""
    for one in kubernetes_objects():
        kubernetes_validate.validate(one, version, strict=True)


def test_kubernetes_never_runs_two_pods_and_lets_nodes_drain() -> None:
    """One replica of a StatefulSet, a disk that one pod may mount; a budget that does not block; everything carries the same label."""
    said = {one["kind"]: one for one in kubernetes_objects()}
    stateful = said["StatefulSet"]["spec"]
    assert stateful["replicas"] == 1
    assert stateful["volumeClaimTemplates"][0]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert stateful["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Retain", "whenScaled": "Retain"}
    assert said["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1
    label = {"app.kubernetes.io/name": "tidepool"}
    assert stateful["selector"]["matchLabels"] == stateful["template"]["metadata"]["labels"] == said["Service"]["spec"]["selector"] == label
    assert all(one["metadata"]["labels"] == label for one in kubernetes_objects())
    assert "HorizontalPodAutoscaler" not in said


def test_compose_starts_the_store_first() -> None:
    """The bucket that is named is the directory that the store makes; its key is the service's."""
    said = compose_services()
    environment, store = said["tidepool"]["environment"], said["s3"]
    bucket = environment["ISCC_SEARCH_SNAPSHOT_URL"].removeprefix("s3://").partition("/")[0]
    assert f"mkdir -p /data/{bucket}" in store["entrypoint"][-1]
    assert environment["AWS_ENDPOINT_URL_S3"] == "http://s3:9000"
    assert environment["AWS_SECRET_ACCESS_KEY"] == store["environment"]["MINIO_ROOT_PASSWORD"]
    assert environment["AWS_ACCESS_KEY_ID"] == store["environment"]["MINIO_ROOT_USER"]
    assert said["tidepool"]["depends_on"] == {"s3": {"condition": "service_healthy"}}


def test_nothing_is_written_outside_the_disk() -> None:
    """The files mount the root read-only and give no other place, so no module may want a temporary file."""
    users = [
        path.name for part in ("service", "snapshots") for path in (ROOT / part).rglob("*.py") if "tempfile" in path.read_text("utf-8")
    ]
    assert users == []
