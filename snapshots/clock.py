"""Time as the shipper feels it, and whether this process stood still meanwhile: stopped by a signal, or with its whole machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

BEAT_S = 1.0
STILL_S = 5.0
"""A process that gave no sign of life for so long stood still. Less is a busy machine."""
STOOD_STILL = "this process stood still"
JUMPED = "the time of day jumped"
"""Its machine was paused, or the clock was set: a process cannot tell which."""

Woke = Callable[[str, float], None]
"""Told STOOD_STILL or JUMPED, and by how many seconds."""


class Clock:
    """One for each shipper, any thread. Tests give another one."""

    def __init__(self) -> None:
        self._beating = threading.Lock()
        self._beaten_s = self.now_s()
        self._ahead_s = self.wall_s() - self._beaten_s
        self._awake_since_s = float("-inf")
        self._woke: Woke = _unheard
        self._ended = threading.Event()

    @property
    def awake_since_s(self) -> float:
        """The first sign of life after this process last stood still, or may have; endless ago when it never did."""
        return self._awake_since_s

    def now_s(self) -> float:
        """Seconds that also pass while the process or the machine is frozen."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall_s(self) -> float:
        """Set right after a pause of which a guest of a hypervisor sees nothing else."""
        return time.time()

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Until somebody notifies, or about so long. The condition is held."""
        changed.wait(seconds)

    def watch(self, woke: Woke) -> None:
        """Gives a sign of life every BEAT_S, until `end`. `woke` is called on any thread, after each time that the process stood still."""
        self._woke = woke
        threading.Thread(target=self._beat_on, name="pulse", daemon=True).start()

    def end(self) -> None:
        """No more signs of life."""
        self._ended.set()

    def beat(self) -> None:
        """A sign of life. What comes long after the last one, or after a jump of the time of day, may have stood still."""
        with self._beating:
            now_s = self.now_s()
            ahead_s = self.wall_s() - now_s
            still_s, jump_s = now_s - self._beaten_s, ahead_s - self._ahead_s
            self._beaten_s, self._ahead_s = now_s, ahead_s
            if still_s <= STILL_S and abs(jump_s) <= STILL_S:
                return
            self._awake_since_s = now_s
        if still_s > STILL_S:
            self._woke(STOOD_STILL, still_s)
        else:
            self._woke(JUMPED, jump_s)

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_S):
            self.beat()


def _unheard(_: str, __: float) -> None:
    """Before somebody watches."""
