"""The files of `infra/` as the platforms read them: what each runs, under which environment, and how it stops it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tests.project import ROOT

INFRA = ROOT / "infra"
SECRET = "a secret of the test"


class Image(msgspec.Struct, frozen=True):
    """What stands in the Containerfile."""

    command: list[str]
    environment: dict[str, str]
    user: str
    stop_signal: str
    port: int
    volume: str


class Deployment(msgspec.Struct, frozen=True):
    """One service as a platform runs it. `taken_s`: what passes of the grace before the process hears of the stop."""

    name: str
    image: str
    command: list[str]
    environment: dict[str, str]
    stop_signal: str
    grace_s: float
    taken_s: float
    ports: set[int]
    probes: dict[str, str]
    """Path by what it decides: `ready` or `alive`."""
    directory: str
    """Where the disk is mounted."""
    user: str


def image() -> Image:
    text = (ROOT / "Containerfile").read_text("utf-8").replace("\\\n", " ")
    last = text[text.rindex("\nFROM ") :]
    lines = dict(re.findall(r"^(CMD|ENV|USER|STOPSIGNAL|EXPOSE|VOLUME) (.+)$", last, re.MULTILINE))
    variables = dict(pair.split("=", 1) for pair in lines["ENV"].split())
    (volume,) = msgspec.json.decode(lines["VOLUME"], type=list[str])
    command = msgspec.json.decode(lines["CMD"], type=list[str])
    return Image(command, variables, lines["USER"], lines["STOPSIGNAL"], int(lines["EXPOSE"]), volume)


def fly() -> Deployment:
    said = fly_toml()
    service = said["http_service"]
    (check,) = service["checks"]
    return Deployment(
        name="fly",
        image=said["build"]["image"],
        command=image().command,
        environment=image().environment | said["env"] | {"ISCC_SEARCH_API_SECRET": SECRET},
        stop_signal=said["kill_signal"],
        grace_s=said["kill_timeout"],
        taken_s=0,
        ports={service["internal_port"], said["metrics"]["port"]},
        probes={"ready": check["path"]},
        directory=said["mounts"]["destination"],
        user=image().user,
    )


def ecs() -> Deployment:
    said = ecs_template()["Resources"]
    task = said["TaskDefinition"]["Properties"]
    (container,) = task["ContainerDefinitions"]
    (mount,) = container["MountPoints"]
    (balanced,) = said["Service"]["Properties"]["LoadBalancers"]
    given = {one["Name"]: one["Value"] for one in container["Environment"]}
    secrets = {one["Name"]: SECRET for one in container["Secrets"]}
    probe = re.findall(r"'GET', '([^']+)'", container["HealthCheck"]["Command"][-1])
    return Deployment(
        name="ecs",
        image=ecs_template()["Parameters"]["Image"]["Default"],
        command=container["Command"],
        environment=image().environment | given | secrets,
        stop_signal=image().stop_signal,
        grace_s=container["StopTimeout"],
        taken_s=0,
        ports={container["PortMappings"][0]["ContainerPort"], balanced["ContainerPort"], said["TargetGroup"]["Properties"]["Port"]},
        probes={"alive": probe[0], "ready": said["TargetGroup"]["Properties"]["HealthCheckPath"]},
        directory=mount["ContainerPath"],
        user=container["User"],
    )


def kubernetes() -> Deployment:
    said = {(one["kind"], one["metadata"]["name"]): one for one in kubernetes_objects()}
    pod = said["StatefulSet", "tidepool"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    rights = pod["securityContext"]
    (port,) = container["ports"]
    return Deployment(
        name="kubernetes",
        image=container["image"],
        command=container["args"],
        environment=image().environment | said["ConfigMap", "tidepool"]["data"] | {"ISCC_SEARCH_API_SECRET": SECRET},
        stop_signal=image().stop_signal,
        grace_s=pod["terminationGracePeriodSeconds"],
        taken_s=container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0),
        ports={port["containerPort"], *(one["port"] for one in said["NetworkPolicy", "tidepool"]["spec"]["ingress"][0]["ports"])},
        probes={"alive": container["livenessProbe"]["httpGet"]["path"], "ready": container["readinessProbe"]["httpGet"]["path"]},
        directory=mount["mountPath"],
        user=f"{rights['runAsUser']}:{rights['runAsGroup']}",
    )


def compose() -> Deployment:
    said = compose_services()["tidepool"]
    (mount,) = said["volumes"]
    (port,) = said["ports"]
    return Deployment(
        name="compose",
        image=said["image"],
        command=said["command"],
        environment=image().environment | said["environment"],
        stop_signal=said["stop_signal"],
        grace_s=float(said["stop_grace_period"].removesuffix("s")),
        taken_s=0,
        ports={int(port.rpartition(":")[2])},
        probes={},
        directory=mount.partition(":")[2],
        user=image().user,
    )


def deployments() -> list[Deployment]:
    return [fly(), ecs(), kubernetes(), compose()]


def fly_toml() -> dict[str, Any]:
    return tomllib.loads((INFRA / "fly/fly.toml").read_text("utf-8"))


def ecs_template() -> dict[str, Any]:
    return _mapping(yaml.load((INFRA / "ecs/template.yaml").read_text("utf-8"), _Template))


def kubernetes_objects() -> list[dict[str, Any]]:
    return [_mapping(one) for one in yaml.safe_load_all((INFRA / "kubernetes/tidepool.yaml").read_text("utf-8"))]


def service_monitor() -> dict[str, Any]:
    return _mapping(yaml.safe_load((INFRA / "kubernetes/servicemonitor.yaml").read_text("utf-8")))


def compose_file() -> dict[str, Any]:
    return _mapping(yaml.safe_load((INFRA / "compose/compose.yaml").read_text("utf-8")))


def compose_services() -> dict[str, Any]:
    return _mapping(compose_file()["services"])


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((INFRA / "prometheus/alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def texts() -> dict[Path, str]:
    """Every file below `infra/` that is not a program."""
    return {path: path.read_text("utf-8") for path in sorted(INFRA.rglob("*")) if path.is_file() and path.suffix not in (".py", ".pyc")}


class _Template(yaml.SafeLoader):
    """YAML with the short forms of CloudFormation."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    raise AssertionError(f"no short form: {node}")


_Template.add_multi_constructor("!", _short_form)


def _mapping(value: Any) -> dict[str, Any]:
    assert isinstance(value, dict)
    return value
