"""The Compose file against the specification's schema, and what the schema cannot say: what is named in it is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.infra.files import INFRA, compose_file
from tests.project import ROOT

FILE = INFRA / "compose/compose.yaml"
CHECKER = Path(sys.executable).parent / "check-jsonschema"
VARIABLE = re.compile(r"\$\{(\w+)")
EACH = pytest.mark.parametrize("name", sorted(compose_file()["services"]))


def refusals(file: Path) -> str:
    """What the schema of the Compose specification has against it. The package brings the schema: nothing is fetched."""
    command: list[str | Path] = [CHECKER, "--builtin-schema", "vendor.compose-spec", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_it_follows_the_specification() -> None:
    assert refusals(FILE) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("stop_grace_period:", "stop_grace:"),
        ("restart: unless-stopped", "restart: [always]"),
        ("condition: service_healthy", "condition: healthy"),
    ],
)
def test_a_misspelt_key_or_value_is_refused(tmp_path: Path, right: str, wrong: str) -> None:
    """The schema knows the keys, their types and their words."""
    changed = tmp_path / "compose.yaml"
    changed.write_text(FILE.read_text("utf-8").replace(right, wrong), "utf-8")
    assert refusals(changed)


@EACH
def test_services_volumes_and_conditions_are_there(name: str) -> None:
    """Who is waited for exists, and says when it is healthy."""
    said = compose_file()
    service = said["services"][name]
    for other, how in service.get("depends_on", {}).items():
        assert how["condition"] != "service_healthy" or said["services"][other]["healthcheck"]["test"]
    assert {volume.partition(":")[0] for volume in service["volumes"]} <= said["volumes"].keys()


def test_every_volume_has_one_user() -> None:
    """The bucket and the data never share one, and none is left over."""
    said = compose_file()
    used = [volume.partition(":")[0] for service in said["services"].values() for volume in service["volumes"]]
    assert sorted(used) == sorted(said["volumes"])


def test_health_checks_have_a_form_that_compose_runs() -> None:
    """A list that begins with CMD is run as it is, CMD-SHELL by a shell; anything else would be a program of that name."""
    checks = [service["healthcheck"]["test"] for service in compose_file()["services"].values() if "healthcheck" in service]
    assert checks
    assert all(check[0] in ("CMD", "CMD-SHELL") and len(check) > 1 for check in checks)


def test_only_this_machine_reaches_the_port() -> None:
    """There is no TLS before it."""
    for service in compose_file()["services"].values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_every_variable_is_demanded_and_told() -> None:
    """Compose puts nothing where a variable is not set, unless it is demanded; the README sets each."""
    guide = (INFRA / "compose/README.md").read_text("utf-8")
    for text in strings(yaml.safe_load(FILE.read_text("utf-8"))):
        for name in VARIABLE.findall(text):
            assert f"${{{name}:?" in text, text
            assert f"{name}=" in guide, name


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from strings(inner)


def test_the_image_has_a_health_check_to_ask() -> None:
    """`docker compose ps` says healthy by the one of the image."""
    assert "\nHEALTHCHECK " in (ROOT / "Containerfile").read_text("utf-8")
