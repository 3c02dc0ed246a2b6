"""System calls of a running process in their order, and system calls that fail on purpose: strace attached to it."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

STOP_SECONDS = 30.0
_CALL = re.compile(r"(\d+) +(\w+)\((.*)")
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)")
_UNFINISHED = " <unfinished ...>"


class Call(NamedTuple):
    """One system call. `begin` and `end` are places in one order of all threads."""

    name: str
    text: str
    begin: int
    end: int

    @property
    def descriptor(self) -> int:
        """The first argument of calls that take a file descriptor."""
        return int(self.text.partition("<")[0])


class Strace:
    """Attached between enter and exit. `calls` are what it saw; it needs no restart of the traced process."""

    def __init__(self, process: int, output: Path, *options: str) -> None:
        self._output = output
        self._command = ["strace", "-f", "-y", "-s", "200", "-o", str(output), *options, "-p", str(process)]

    def __enter__(self) -> Self:
        self._strace = subprocess.Popen(self._command, stderr=subprocess.PIPE, text=True)
        assert self._strace.stderr is not None
        first = self._strace.stderr.readline()
        if "attached" not in first:
            self._end()
            raise AssertionError(f"strace cannot attach: {first}")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def calls(self) -> list[Call]:
        """In the order in which they began. Only after the exit."""
        open_calls: dict[str, tuple[str, str, int]] = {}
        calls: list[Call] = []
        for place, line in enumerate(self._output.read_text("utf-8", "replace").splitlines()):
            if (found := _RESUMED.match(line)) and found[1] in open_calls:
                name, text, begin = open_calls.pop(found[1])
                calls.append(Call(name, text + found[3], begin, place))
            elif found := _CALL.match(line):
                if line.endswith(_UNFINISHED):
                    open_calls[found[1]] = found[2], found[3].removesuffix(_UNFINISHED), place
                else:
                    calls.append(Call(found[2], found[3], place, place))
        return sorted(calls, key=lambda call: call.begin)

    def _end(self) -> None:
        """It detaches and leaves the traced process running; it is gone already when that process ended."""
        if self._strace.poll() is None:
            self._strace.send_signal(signal.SIGINT)
        self._strace.communicate(timeout=STOP_SECONDS)
