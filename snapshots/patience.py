"""How long a bucket is asked before it counts as unreachable."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from snapshots.errors import Unreachable

Answer = TypeVar("Answer")


class Patience(msgspec.Struct, frozen=True):
    """Seconds. One call ends after `total_s` and what the try that then runs still takes."""

    connect_s: float = 5.0
    read_s: float = 30.0
    total_s: float = 60.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0

    def pause_s(self, tries: int) -> float:
        """Grows twofold; half of it is chance, so that those who failed together do not come back together."""
        longest = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(tries - 1, 32))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def ask(self, call: Callable[[], Answer], stop: threading.Event) -> Answer:
        """Repeats `call` while it is Unreachable, the time lasts and nobody stops."""
        end = time.monotonic() + self.total_s
        tries = 1
        while True:
            try:
                return call()
            except Unreachable as error:
                pause = self.pause_s(tries)
                if time.monotonic() + pause > end or stop.wait(pause):
                    raise Unreachable(f"{error} tries={tries}") from error
            tries += 1
