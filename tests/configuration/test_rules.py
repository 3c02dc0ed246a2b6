"""Combinations that cannot work are refused at the start, by the code and by the JSON Schema."""

from __future__ import annotations

from pathlib import Path

import jsonschema_rs
import pytest

from service.configuration import rules
from service.configuration.schema import schema
from service.configuration.table import PREFIX
from service.settings import SettingsError, load
from snapshots import s3_settings

NONE = Path("/nonexistent/.env")
VALIDATOR = jsonschema_rs.validator_for(schema())
OPEN = {"HOST": "0.0.0.0", "REQUIRE_SECRET": "yes"}
S3 = {"SNAPSHOT_URL": "s3://bucket/prefix"}
REDIS = {"RATE_LIMIT_STORE": "redis"}
URL = {"RATE_LIMIT_REDIS_URL": "redis://127.0.0.1:6379/0"}
ECS = {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"}
FLY = {"FLY_APP_NAME": "x"}


def environment(ours: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    return {**{PREFIX + name: value for name, value in ours.items()}, **other}


@pytest.mark.parametrize(
    ("ours", "other", "words"),
    [
        ({"DURABILITY": "Remote", "SNAPSHOT_URL": "none"}, {}, ["DURABILITY", "SNAPSHOT_URL is none", "name a bucket"]),
        (S3, {}, ["SNAPSHOT_URL='s3://bucket/prefix'", "AWS_REGION", "AWS_ENDPOINT_URL_S3"]),
        (S3, {"AWS_ENDPOINT_URL_S3": "https://s3.dualstack.eu-west-1.amazonaws.com"}, ["AWS_REGION"]),
        (REDIS, {}, ["RATE_LIMIT_STORE='redis'", "RATE_LIMIT_REDIS_URL"]),
        ({"DRAIN_SECONDS": "301"}, FLY, ["DRAIN_SECONDS='301'", "Fly.io", "300"]),
        ({"DRAIN_SECONDS": "121"}, ECS, ["DRAIN_SECONDS='121'", "ECS", "120"]),
        (OPEN, {}, ["HOST='0.0.0.0'", "REQUIRE_SECRET", "API_SECRET_FILE"]),
    ],
)
def test_unsafe_combinations_are_refused(ours: dict[str, str], other: dict[str, str], words: list[str]) -> None:
    """One problem, which names the variable, its value and the way out; the schema refuses the same."""
    given = environment(ours, other)
    with pytest.raises(SettingsError) as caught:
        load(given, NONE)
    (problem,) = caught.value.problems
    assert [word for word in words if word not in problem] == []
    assert not VALIDATOR.is_valid(given)


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ({"DURABILITY": "local", "SNAPSHOT_URL": "none"}, {}),
        (S3, {"AWS_REGION": "eu-west-1"}),
        (S3, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}),
        (S3, {"AWS_PROFILE": "work"}),
        ({**REDIS, **URL}, {}),
        ({"DRAIN_SECONDS": "300"}, FLY),
        ({"DRAIN_SECONDS": "120"}, ECS),
        ({"DRAIN_SECONDS": "3600"}, {}),
        ({**OPEN, "API_SECRET": "hush"}, {}),
        ({"REQUIRE_SECRET": "yes"}, {}),
        ({"REQUIRE_SECRET": "yes", "HOST": "127.0.0.2"}, {}),
    ],
)
def test_what_works_is_accepted(ours: dict[str, str], other: dict[str, str]) -> None:
    """By both."""
    given = environment(ours, other)
    load(given, NONE)
    VALIDATOR.validate(given)


def test_a_profile_of_the_user_has_the_region(tmp_path: Path) -> None:
    """boto3 reads it; whoever works with it must not be refused."""
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "config").write_text("[default]\nregion = eu-west-1\n")
    load(environment(S3, {"HOME": str(tmp_path)}), NONE)


def test_the_bucket_of_fly_needs_a_region_too(tmp_path: Path) -> None:
    """The address that follows from BUCKET_NAME is looked at like any other."""
    with pytest.raises(SettingsError, match="AWS_ENDPOINT_URL_S3"):
        load({"BUCKET_NAME": "x"}, NONE)
    fly = {"BUCKET_NAME": "x", "AWS_ENDPOINT_URL_S3": "https://fly.storage.tigris.dev", "AWS_REGION": "auto"}
    assert load(fly, NONE)[0].snapshot_url == "s3://x/tidepool"


def test_rules_are_told_beside_wrong_values() -> None:
    """All problems at once, whatever their kind."""
    with pytest.raises(SettingsError) as caught:
        load(environment({**OPEN, "PORT": "x", "DRAIN_SECOND": "1"}, {}), NONE)
    assert [problem.partition("=")[0].removeprefix(PREFIX) for problem in caught.value.problems] == ["DRAIN_SECOND", "PORT", "HOST"]


def test_names_of_amazon_are_those_of_snapshots() -> None:
    """Settings may not import them; they stand twice."""
    assert rules.AWS == s3_settings.AWS
    assert rules.ENDPOINTS == s3_settings.ENDPOINTS
    assert rules.REGIONS == s3_settings.REGIONS


@pytest.mark.parametrize(("grace", "budget", "refused"), [("16", "30", True), ("15", "30", False), ("1", "1", True), ("0", "1", False)])
def test_the_grace_leaves_time_for_the_rest_of_the_stop(grace: str, budget: str, refused: bool) -> None:
    """At most half of the budget. A schema cannot compare two texts."""
    given = environment({"DRAIN_GRACE_SECONDS": grace, "DRAIN_SECONDS": budget}, {})
    if not refused:
        assert load(given, NONE)[0].drain_grace_seconds == int(grace)
        return
    with pytest.raises(SettingsError) as caught:
        load(given, NONE)
    most = f"expected at most half of ISCC_SEARCH_DRAIN_SECONDS={budget}, because the rest of the stop needs time too"
    assert caught.value.problems == [f"ISCC_SEARCH_DRAIN_GRACE_SECONDS='{grace}': {most}"]
