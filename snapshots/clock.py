"""Time as the shipper feels it."""

from __future__ import annotations

import threading
import time


class Clock:
    """Any thread. Tests give another one."""

    def now_s(self) -> float:
        """Seconds that also pass while the process or the machine is frozen."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Until somebody notifies, or about so long. The condition is held."""
        changed.wait(seconds)
