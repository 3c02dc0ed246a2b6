"""Child processes of a store: output to a file, ended by their process id."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.system.server import wait_until

START_SECONDS = 60.0
END_SECONDS = 30.0


class Children:
    """Started one after the other, killed in reverse: what they keep is thrown away."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        logs.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for _, process in reversed(self._running):
            process.kill()
            process.wait(END_SECONDS)

    def start(self, name: str, command: Sequence[str | Path]) -> None:
        with (self._logs / f"{name}.out").open("ab") as log:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._running.append((name, process))

    def wait_answers(self, url: str) -> None:
        """Until an HTTP server answers, whatever it says. Fails with the logs when a child ended or the time is over."""
        try:
            wait_until(lambda: self._all_running() and _answers(url), START_SECONDS, f"an answer from {url}")
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self._told()}") from error

    def _all_running(self) -> bool:
        for name, process in self._running:
            assert process.poll() is None, f"{name} ended with {process.returncode}\n{self._told()}"
        return True

    def _told(self) -> str:
        return "\n".join(f"{path.name}:\n{path.read_text('utf-8', 'replace')[-2000:]}" for path in sorted(self._logs.iterdir()))


def run(*command: str | Path, seconds: float = 60.0) -> str:
    """Standard output of a command that must succeed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
