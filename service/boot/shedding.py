"""What the process does without first: when the disk or its own memory is short, background work waits until there is room again.

Memory is that of the process itself (anonymous). Pages of mapped files do not count: the system takes them back when it needs them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from service.boot.figures import free_bytes
from service.logs import event
from service.machine import memory

DISK_SHARE = 2
"""Background work stops at so many times the room that writes leave free: it must not be what makes them fail."""
LOOK_S = 1.0
DISK, MEMORY = "disk", "memory"


class Gauge:
    """One thing that may be short. Looked at once a second at most; any thread may ask."""

    def __init__(self, name: str, is_short: Callable[[], bool]) -> None:
        self._name = name
        self._look = is_short
        self._short = False
        self._again_at = 0.0
        self._mutex = threading.Lock()

    def is_short(self) -> bool:
        with self._mutex:
            now = time.monotonic()
            if now >= self._again_at:
                self._again_at = now + LOOK_S
                self._see(self._look())
            return self._short

    def _see(self, short: bool) -> None:
        if short != self._short:
            self._short = short
            level = logging.WARNING if short else logging.INFO
            event(level, "background work waits" if short else "background work goes on", reason=self._name)


class Shedding:
    """Lives as long as the process."""

    def __init__(self, directory: Path, disk_free_min: int, memory_max: int) -> None:
        """0 for no limit."""
        self.disk = Gauge(DISK, lambda: _free(directory) < DISK_SHARE * disk_free_min)
        self.memory = Gauge(MEMORY, lambda: 0 < memory_max < memory()["anonymous"])

    def is_short(self) -> bool:
        """Of anything: checkpoints and drills wait then."""
        return self.disk.is_short() or self.memory.is_short()

    def shown(self) -> dict[str, bool]:
        """For the metrics."""
        return {DISK: self.disk.is_short(), MEMORY: self.memory.is_short()}


def _free(directory: Path) -> float:
    """Before the directory is there nothing is short."""
    found = free_bytes(directory)
    return float("inf") if found is None else found
