"""The Containerfile against the code: its paths, user, command, port and health check are the ones that the service has."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from service import settings
from tests.project import ROOT, pyproject, read


class Instruction(NamedTuple):
    name: str
    text: str


def stages() -> list[list[Instruction]]:
    """The instructions of each stage, continued lines joined, comments left out. What stands before the first FROM is not in it."""
    lines = "\n".join(line for line in read("Containerfile").splitlines() if not line.startswith("#"))
    found: list[list[Instruction]] = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        name, _, text = line.partition(" ")
        if name == "FROM":
            found.append([])
        if found and name:
            found[-1].append(Instruction(name, text.strip()))
    return found


def final(name: str) -> str:
    """The text of the one instruction of this name in the stage that becomes the image."""
    (text,) = [instruction.text for instruction in stages()[-1] if instruction.name == name]
    return text


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in final("ENV").split())


def health_command() -> list[str]:
    command: list[str] = json.loads(final("HEALTHCHECK").partition("CMD ")[2])
    return command


def test_hadolint_finds_nothing() -> None:
    """The linter for container files has no complaint."""
    done = subprocess.run([str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Containerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_environment_is_understood(tmp_path: Path) -> None:
    """The settings read from the image's environment put the data in the volume, listen on every network, and contain no unknown name."""
    read_settings, notices = settings.load(environment(), tmp_path / ".env")
    assert [str(read_settings.directory)] == json.loads(final("VOLUME"))
    assert (read_settings.host, str(read_settings.port)) == ("0.0.0.0", final("EXPOSE"))
    assert notices == []


def test_port_is_the_default(tmp_path: Path) -> None:
    """The image listens where the service listens without any setting."""
    assert str(settings.load({}, tmp_path / ".env")[0].port) == final("EXPOSE")


def test_user_is_not_root_and_owns_the_data() -> None:
    """A fixed user that is not root runs the service, and the data directory belongs to it."""
    user, group = final("USER").split(":")
    (volume,) = json.loads(final("VOLUME"))
    assert int(user) > 0
    assert f"useradd --uid {user} --gid {group} " in final("RUN")
    assert f"install -d -o {user} -g {group} -m 0750 {volume}" in final("RUN")


def test_command_is_the_console_script() -> None:
    """An init starts the console script of pyproject.toml with a command that it has; both in exec form, so that signals arrive."""
    init, separator = json.loads(final("ENTRYPOINT"))
    script, command = json.loads(final("CMD"))
    module, _, function = pyproject()["project"]["scripts"][script].partition(":")
    main = getattr(importlib.import_module(module), function)
    assert isinstance(main, click.Group)
    assert command in main.commands
    assert (init, separator, final("STOPSIGNAL")) == ("tini", "--", "SIGTERM")


def test_only_the_first_stage_has_a_compiler() -> None:
    """gcc is installed where the wheel is built and nowhere else; the environment is copied to the same path and is first in PATH."""
    first, second = (" ".join(instruction.text for instruction in stage if instruction.name == "RUN") for stage in stages())
    assert "gcc" in first
    assert "gcc" not in second
    source, target = final("COPY").removeprefix("--from=build ").split()
    assert source == target
    assert environment()["PATH"].startswith(f"{target}/bin:")


def test_the_build_demands_what_is_compiled() -> None:
    """The extension modules that setup.py builds are imported by the build, so that an image without them cannot come to be."""
    names = re.findall(r'_extension\("([\w.]+)"', read("setup.py"))
    assert len(names) == 2
    assert f"import {', '.join(names)}" in " ".join(instruction.text for instruction in stages()[0])


def test_copied_files_are_all_that_a_build_needs() -> None:
    """Each copied path exists, the packages and documents of pyproject.toml are copied, and .containerignore lets just these pass."""
    copied = {name.removesuffix("/") for instruction in stages()[0] if instruction.name == "COPY" for name in instruction.text.split()[:-1]}
    project = pyproject()
    packages = {name.partition(".")[0] for name in project["tool"]["setuptools"]["packages"]}
    documents = {project["project"]["readme"], *project["project"]["license-files"]}
    assert copied == {"pyproject.toml", "setup.py", "constraints.txt", *packages, *documents}
    assert all((ROOT / name).exists() for name in copied)
    assert copied == {line[1:] for line in read(".containerignore").splitlines() if line.startswith("!")}


class Health(BaseHTTPRequestHandler):
    """Answers 200 on /healthz as long as its server is well."""

    def do_GET(self) -> None:  # the name that http.server calls
        well = self.path == "/healthz" and isinstance(self.server, Clinic) and self.server.well
        self.send_response(200 if well else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name that http.server gives
        """Says nothing."""


class Clinic(HTTPServer):
    well = True


@contextmanager
def clinic() -> Iterator[Clinic]:
    with Clinic(("127.0.0.1", 0), Health) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def health(port: int) -> int:
    python, *arguments = health_command()
    assert python == "python"
    variables = {"ISCC_SEARCH_PORT": str(port)}
    return subprocess.run([sys.executable, *arguments], env=variables, stderr=subprocess.DEVNULL).returncode


@pytest.mark.parametrize(("well", "code"), [(True, 0), (False, 1)])
def test_health_check_follows_the_probe(well: bool, code: int) -> None:
    """The image's health check ends with 0 exactly when /healthz answers 200 on the port of the settings."""
    with clinic() as server:
        server.well = well
        assert health(server.server_port) == code


def test_health_check_fails_without_a_server() -> None:
    """Where nothing listens the health check does not end with 0."""
    with clinic() as server:
        port = server.server_port
    assert health(port) != 0
