"""The real service as a child process: started on a free port with a clean environment, stopped or killed, and always ended."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.project import ROOT

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 60.0
POLL_SECONDS = 0.005
PREFIX = "ISCC_SEARCH_"
NOT_OURS = (PREFIX, "AWS_", "TIDEPOOL_", "BUCKET_NAME")
"""Variables of whoever runs the tests that must not reach the service."""


class Server:
    """One data directory and the process that serves it. `settings` are names without prefix: `Server(path, SEGMENT_CODES=64)`.

    The log stands beside the directory and keeps growing over restarts. `environment` (variables under their own names), `arguments` (of
    `serve`) and `command` (words before the interpreter) may be set before a start.
    """

    def __init__(self, directory: Path, **settings: object) -> None:
        self.directory = directory
        self.environment: dict[str, str] = {}
        self.arguments: list[str] = []
        self.command: list[str] = []
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.process: subprocess.Popen[bytes]
        assert all(name.isupper() for name in settings), settings
        self._settings = settings
        self._log = directory.with_name(directory.name + ".log")

    def given(self, environment: Mapping[str, str], command: Sequence[str] = ()) -> Self:
        """The same server with these variables, and these words before the interpreter."""
        self.environment, self.command = dict(environment), list(command)
        return self

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def start(self) -> None:
        """Returns at once; `wait_ready` waits."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, sys.executable, "-m", "service", "serve", *self.arguments],
                cwd=self.directory.parent,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, seconds: float = START_SECONDS) -> float:
        """Seconds that it took. Fails with the log when the process ended or the time is over."""
        started = time.monotonic()
        try:
            wait_until(lambda: self.is_ready() or self.process.poll() is not None, seconds, "the service to be ready")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.log()}") from error
        assert self.process.poll() is None, f"the service ended with {self.process.returncode}\n{self.log()}"
        return time.monotonic() - started

    def wait_exit(self, seconds: float = STOP_SECONDS) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL: no line of the process runs any more."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM; the exit code."""
        self.terminate()
        return self.wait_exit(seconds)

    def restart(self) -> float:
        """Starts again after `kill` or `stop`, on the same port and directory. Seconds until it was ready."""
        self.start()
        return self.wait_ready()

    def end(self) -> None:
        """Whatever state the process is in, it is gone afterwards."""
        if self.process.poll() is None:
            self.kill()

    def log(self) -> str:
        """Everything that all processes of this server wrote."""
        return self._log.read_text("utf-8", "replace")

    def is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_OURS)}
        ours = {"INDEX_URI": f"usearch://{self.directory}", "HOST": HOST, "PORT": self.port, **self._settings}
        given = {PREFIX + name: str(value) for name, value in ours.items()}
        return {**clean, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **given, **self.environment}


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when the condition holds; TimeoutError when it never did."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(POLL_SECONDS)
