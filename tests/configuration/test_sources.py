"""Where values come from: files that hold secrets, what `tidepool config` shows, what the machine says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.configuration.schema import text
from service.configuration.table import PREFIX, SECRETS, SETTINGS
from service.configuration.usual import memory_max
from service.settings import SettingsError, effective, load
from tests.project import ROOT

NONE = Path("/nonexistent/.env")
SECRET = f"{PREFIX}API_SECRET"


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        load(environ, NONE)
    (problem,) = caught.value.problems
    return problem


def config(*arguments: str, directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {"PYTHONPATH": str(ROOT), "HOME": str(directory), **{PREFIX + name: value for name, value in variables.items()}}
    command = [sys.executable, "-m", "service", "config", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, cwd=directory, check=False)


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    """The line end behind it is not part of it."""
    values = {
        "API_SECRET": "hush",
        "SNAPSHOT_HEARTBEAT_URL": "https://x.example/secret",
        "RATE_LIMIT_REDIS_URL": "redis://:hush@x:1/0",
        "SENTRY_DSN": "https://key@x.example/1",
    }
    assert values.keys() == set(SECRETS)
    for name, value in values.items():
        (tmp_path / name).write_text(f"{value}\n")
    settings = load({f"{PREFIX}{name}_FILE": str(tmp_path / name) for name in values}, NONE)[0]
    assert {name: getattr(settings, name.lower()) for name in values} == values


def test_a_secret_stands_in_one_place(tmp_path: Path) -> None:
    """Both is a mistake: nobody knows which one is meant."""
    file = tmp_path / "secret"
    file.write_text("hush")
    problem = refused({SECRET: "other", f"{SECRET}_FILE": str(file)})
    assert problem == f"{SECRET}_FILE='{file}': {SECRET} is given too: leave one of them out"


def test_a_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """Missing, empty, no text, far too large: a problem that does not show what is in it."""
    file = tmp_path / "secret"
    assert "cannot be read: No such file or directory" in refused({f"{SECRET}_FILE": str(file)})
    file.write_text("\n")
    assert refused({f"{SECRET}_FILE": str(file)}).startswith(f"{SECRET}=(hidden): empty")
    file.write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused({f"{SECRET}_FILE": str(file)})
    file.write_bytes(b"x" * 100_000)
    assert "too large" in refused({f"{SECRET}_FILE": str(file)})


def test_every_value_has_its_source(tmp_path: Path) -> None:
    """Command line before environment before `.env` before the default; Fly's bucket by its own name."""
    dotenv, file = tmp_path / ".env", tmp_path / "secret"
    dotenv.write_text(f"{PREFIX}PORT=9001\n{PREFIX}MAX_LIMIT=7\n")
    file.write_text("hush")
    environ = {f"{PREFIX}PORT": "9002", f"{SECRET}_FILE": str(file), "BUCKET_NAME": "b", "AWS_REGION": "auto"}
    rows = {row.name.removeprefix(PREFIX): (row.value, row.source) for row in effective(environ, dotenv, {f"{PREFIX}HOST": "::1"})}
    assert list(rows) == list(SETTINGS)
    assert rows["PORT"] == ("9002", "environment")
    assert rows["MAX_LIMIT"] == ("7", ".env")
    assert rows["HOST"] == ("::1", "command line")
    assert rows["MAX_UNITS"] == ("64", "default")
    assert rows["SNAPSHOT_URL"] == ("s3://b/tidepool", "BUCKET_NAME")
    assert rows["API_SECRET"] == ("(hidden)", f"file {file}")
    assert int(rows["READ_THREADS"][0]) >= 1


def test_config_prints_what_holds_and_no_secret(tmp_path: Path) -> None:
    """As lines, and as JSON."""
    given = {"API_SECRET": "hush", "RATE_LIMIT_REDIS_URL": "redis://:hush@x:1/0", "PORT": "9000"}
    lines, programs = config(directory=tmp_path, **given), config("--json", directory=tmp_path, **given)
    assert "ISCC_SEARCH_PORT=9000  # environment\n" in lines.stdout
    assert json.loads(programs.stdout)["ISCC_SEARCH_PORT"] == {"value": "9000", "source": "environment"}
    assert json.loads(programs.stdout)["ISCC_SEARCH_RATE_LIMIT_REDIS_URL"]["value"] == "(hidden)"
    assert "hush" not in lines.stdout + lines.stderr + programs.stdout + programs.stderr


def test_config_refuses_like_serve(tmp_path: Path) -> None:
    """Code 2 and all problems."""
    done = config(directory=tmp_path, PORT="x", DRAIN_SECOND="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2


def test_config_prints_the_schema(tmp_path: Path) -> None:
    """Whatever the environment is."""
    assert config("--schema", directory=tmp_path, PORT="x").stdout == text()


def test_the_share_of_the_container() -> None:
    """85 % of a limit; none when there is no limit but the machine's."""
    assert memory_max(1000, 2000) == 850
    assert memory_max(2000, 2000) == 0
