"""How a process on this disk last failed, for those that come after it: `<data directory>/failed.json`.

A log may be gone by then, and a process that lives for seconds is seldom met by those who ask for metrics. It is a note and no promise:
nothing is written by a process that was killed, nor where the disk is full or gone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from service.logs import event, logger
from snapshots.errors import LocalFault, NoRoom
from snapshots.files import write_whole

NOTE = "failed.json"


class Failure(msgspec.Struct, frozen=True):
    """The content of `failed.json`. `at` in seconds since 1970."""

    at: float
    code: int
    before: str
    """The state that it failed in."""
    reason: str
    starts: int
    """Starts in a row that ended in this state, before anything was served; 0 after one that did."""
    times: dict[int, float]
    """When a process on this disk last ended with each code."""


class Failures:
    """Lives as long as the process, which owns the directory: it takes the lock first. Used on the boot thread, `note` on any."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = directory / NOTE
        self._clock = clock
        self.last = _read(self._path)
        if self.last is not None:
            event(logging.INFO, "the last failure on this disk", **msgspec.structs.asdict(self.last))

    def note(self, code: int, before: str, reason: str, *, served: bool) -> None:
        """What ends this process."""
        now, last = self._clock(), self.last
        again = last.starts if last is not None and last.before == before else 0
        times = {**(last.times if last is not None else {}), code: now}
        self._write(Failure(now, code, before, reason, 0 if served else again + 1, times))

    def end_row(self) -> None:
        """Now something is served."""
        if self.last is not None and self.last.starts:
            self._write(msgspec.structs.replace(self.last, starts=0))

    def _write(self, failure: Failure) -> None:
        """What cannot be written is only missing in a metric: it must not keep the process from ending, or from serving."""
        self.last = failure
        try:
            write_whole(self._path, msgspec.json.encode(failure))
        except (LocalFault, NoRoom) as error:
            logger.warning("%s", error)


def _read(path: Path) -> Failure | None:
    """A note that cannot be read is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Failure)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
