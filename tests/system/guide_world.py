"""The world in which the commands of the guides run: a data directory, a bucket in a store, a shell, and the service when it is started.

The guides write `/data`, `http://127.0.0.1:8000`, `s3://my-bucket/tidepool` and a time; here they stand for a directory, a port, a prefix
and a moment of the test. `tidepool serve` starts the real service, waits until it is ready, and before that ends the one that had
the port or the directory.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from tests.guides import Step
from tests.project import ROOT
from tests.stores.store import Store
from tests.system.client import Client
from tests.system.server import NOT_OURS, PREFIX, Server, free_port, wait_until

URL, BUCKET, MOMENT, DATA, HOST, SECRET = (
    "http://127.0.0.1:8000",
    "s3://my-bucket/tidepool",
    "2026-11-20T10:15:00Z",
    "/data",
    "tidepool-0",
    "a-secret-of-the-guides",
)
OTHER_PORT = "8001"
COMMAND_S = 60.0
SERVE = re.compile(r"((?:\w+=\S* )*)tidepool serve\b([^|;&]*)")


class World:
    """One scene. Ends everything that it started."""

    def __init__(self, root: Path, store: Store, **settings: object) -> None:
        self.root = root
        self.data = root / "data"
        self.data.mkdir()
        self.store = store
        self.bucket = store.url
        self.port, self.other_port = free_port(), free_port()
        self.moment = MOMENT
        self.servers: dict[int, Server] = {}
        given = {"INDEX_URI": self.data, "PORT": self.port, "API_SECRET": SECRET, "SNAPSHOT_URL": self.bucket, **settings}
        self.environment = {**store.environment, **{PREFIX + name: str(value) for name, value in given.items()}}
        self._shell = Shell(root, self.environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server in self.servers.values():
            server.end()
        self._shell.close()

    def run(self, command: str) -> tuple[str, int]:
        """What a command of the guides prints here, in the words of the guides, and its exit code."""
        command = self._here(command)
        serves = SERVE.fullmatch(command.strip())
        if serves is None:
            printed, code = self._shell.run(command)
        else:
            variables = dict(word.split("=", 1) for word in shlex.split(serves[1]))
            printed, code = self.serve(variables, shlex.split(serves[2], comments=True))
            self._shell.run(f"(exit {code})")
        return self._there(printed), code

    def serve(self, variables: dict[str, str] | None = None, arguments: list[str] | None = None) -> tuple[str, int]:
        """Starts the service, after the one on this port was stopped. Its last words and exit code when it ends before it is ready."""
        words = arguments or []
        port = int(words[words.index("--port") + 1]) if "--port" in words else self.port
        environment = {**self.environment, f"{PREFIX}PORT": str(port), **(variables or {})}
        for other in self.servers.values():
            same = other.port == port or other.environment[f"{PREFIX}INDEX_URI"] == environment[f"{PREFIX}INDEX_URI"]
            if same and other.process.poll() is None:
                assert other.stop() == 0, other.log()
        server = self.servers[port] = Server(self.root / f"service-{port}")
        server.port, server.url = port, f"http://127.0.0.1:{port}"
        server.environment = environment
        server.arguments = words
        seen = len(server.log()) if server.directory.with_name(server.directory.name + ".log").exists() else 0
        server.start()
        wait_until(lambda: server.is_ready() or server.process.poll() is not None, COMMAND_S, "the service to be ready or to end")
        code = server.process.poll()
        if code is None:
            return "", 0
        told = [line for line in server.log()[seen:].splitlines() if line.startswith("tidepool: ")]
        return "\n".join(told), code

    @property
    def server(self) -> Server:
        """The service on the usual port."""
        return self.servers[self.port]

    def client(self, **headers: str) -> Client:
        return Client(self.port, headers={"x-api-key": SECRET, **headers})

    def _here(self, text: str) -> str:
        text = re.sub(rf"(?<![\w./~-]){DATA}\b", str(self.data), text)
        for theirs, ours in ((URL, f"http://127.0.0.1:{self.port}"), (BUCKET, self.bucket), (MOMENT, self.moment)):
            text = text.replace(theirs, ours)
        return text.replace(OTHER_PORT, str(self.other_port))

    def _there(self, text: str) -> str:
        for ours, theirs in (
            (str(self.data), DATA),
            (f"http://127.0.0.1:{self.port}", URL),
            (self.bucket, BUCKET),
            (self.store.endpoint, "https://store.example"),
            (f" on {socket.gethostname()}", f" on {HOST}"),
            ("bucket={} key={}/".format(*self.bucket.removeprefix("s3://").split("/")), "bucket=my-bucket key=tidepool/"),
            ("'a fault of the test'", "'Access Denied'"),
        ):
            text = text.replace(ours, theirs)
        return text.replace(str(self.other_port), OTHER_PORT)


class Shell:
    """One bash for all commands of a scene, as a person has it."""

    MARK = "-- end of a command"

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        tools = root / "bin"
        tools.mkdir()
        (tools / "tidepool").write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
        (tools / "tidepool").chmod(0o755)
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_OURS)}
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=root,
            env={**clean, "PATH": f"{tools}:{clean['PATH']}", "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: str) -> tuple[str, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command.rstrip()}\nstatus=$?; printf '\\n{self.MARK} %d\\n' $status; (exit $status)\n")
        self._process.stdin.flush()
        late = threading.Timer(COMMAND_S, self._process.kill)
        late.start()
        lines: list[str] = []
        try:
            for line in self._process.stdout:
                if line.startswith(self.MARK):
                    return "".join(lines)[:-1].rstrip("\n"), int(line.rsplit(" ", 1)[1])
                lines.append(line)
        finally:
            late.cancel()
        raise AssertionError(f"the shell ended in {command!r}:\n{''.join(lines)}")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


VOLATILE = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)", "TIME"),
    (r"\d{8}T\d{6}\.\d+Z", "TIME"),
    (r"\b([0-9a-f]{2}/)?([0-9a-f]{8})+\b", "ID"),
    (r"\bdiffer by \d+ s", "differ by N s"),
    (r"(searches compared +)\d+", r"\1N"),
    (r"\b\d+(\.\d+)? (B|KiB|MiB|GiB)\b", "SIZE"),
    (r"-?\d+\.\d+", "N"),
    (r"[ \t]+", " "),
    (r" $", ""),
)
"""What differs from run to run: times, ids, sizes, and how far columns are apart."""


def plain(output: str) -> str:
    """What is the same in each run."""
    for pattern, word in VOLATILE:
        output = re.sub(pattern, word, output, flags=re.MULTILINE)
    return output.strip()


class Seen(NamedTuple):
    """A command of the guides as it went here."""

    command: str
    output: str
    code: int


def replay(world: World, steps: list[Step]) -> list[Seen]:
    """The same commands with what they print now."""
    ran = ((step.command, *world.run(step.command)) for step in steps)
    return [Seen(command, f"{printed}\n" if printed else "", code) for command, printed, code in ran]
