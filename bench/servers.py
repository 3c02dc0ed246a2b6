"""The two servers under test as real processes: start, wait until ready, stop, kill; their memory and their disk."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from bench.cpu import family

START_BUDGET_S = 300
STOP_BUDGET_S = 300
POLL_INTERVAL_S = 0.005


class Target(msgspec.Struct, frozen=True):
    """What is measured: a name for the table, the version, and the command without host and port."""

    name: str
    version: str
    command: list[str]


def ours() -> Target:
    from service import __version__  # here, so that the reference can be measured alone

    return Target("tidepool", __version__, [sys.executable, "-m", "service", "serve"])


def reference(python: Path) -> Target:
    script = "import importlib.metadata as m; print(m.version('iscc-search'))"
    version = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    return Target("iscc-search", version, [str(python), "-m", "iscc_search.cli", "serve"])


class Refused(RuntimeError):
    """An answer that is an error. `retry_after_s` when the server names a time after which the request may be sent again."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Server:
    """One server on one data directory, started and ended any number of times. Every process of it is in a process group of its own."""

    def __init__(self, target: Target, directory: Path, environment: dict[str, str] | None = None) -> None:
        self.target, self.directory = target, directory
        self._environment = environment or {}
        self.port = _free_port()
        self.data = directory / "data"
        self.data.mkdir(parents=True)

    def start(self) -> None:
        """Returns when the process runs, not when it is ready."""
        setting = {"INDEX_URI": f"usearch://{self.data}", "HOST": "127.0.0.1", "PORT": str(self.port), "LOG_LEVEL": "info"}
        env = {key: value for key, value in os.environ.items() if not key.startswith("ISCC_SEARCH_")}
        env |= {f"ISCC_SEARCH_{key}": value for key, value in setting.items()} | {"PYTHONPATH": str(Path(__file__).parents[1])}
        env |= self._environment
        with (self.directory / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.target.command, cwd=self.directory, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait_ready(self, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        deadline = time.monotonic() + START_BUDGET_S
        while self.status_of("/readyz") != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                tail = (self.directory / "server.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.target.name} did not get ready code={self.process.returncode} log={tail}")
            time.sleep(poll_interval_s)

    def status_of(self, path: str) -> int:
        """The status of a GET, 0 when nobody answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_BUDGET_S)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def post(self, path: str, body: object) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_BUDGET_S)
        try:
            connection.request("POST", path, msgspec.json.encode(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            later = answer.getheader("Retry-After") if answer.status == 503 else None
            reason = f"{self.target.name} refused path={path} status={answer.status} body={data[:300]!r}"
            raise Refused(reason, float(later) if later else None)
        return data

    def stop(self) -> float:
        """Seconds from SIGTERM to the end of the process."""
        started = time.perf_counter()
        self.process.terminate()
        self.process.wait(STOP_BUDGET_S)
        return time.perf_counter() - started

    def kill(self) -> None:
        """SIGKILL to the process and all its children at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Whatever its state: nothing of it runs afterwards."""
        if self.process.poll() is None:
            self.kill()

    def anonymous_bytes(self) -> int:
        """Resident anonymous memory of the process and its children."""
        return sum(_anonymous_bytes(process) for process in family(self.process.pid))

    def disk_bytes(self) -> int:
        """Allocated bytes, so that a sparse file counts what it takes."""
        return sum(path.stat().st_blocks * 512 for path in self.data.rglob("*") if path.is_file())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _anonymous_bytes(process: int) -> int:
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Anonymous:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no Anonymous line in smaps_rollup process={process}")
