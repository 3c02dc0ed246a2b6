"""How a stop divides its time, and the line in the log for each of its phases.

Of `ISCC_SEARCH_DRAIN_SECONDS`, the budget:

    grace     ISCC_SEARCH_DRAIN_GRACE_SECONDS: not ready any more, everything is still answered; whoever sends requests here finds out
    requests  at most 60 % of the rest: the port is closed, what was accepted is answered
    writes    at most a quarter of what is left then: nothing is taken any more, what waits in the lanes is done
    log       what is left but for the last part: the end of the log goes into the bucket
    close     two seconds, or half of what the log would have had: LMDB is closed and the mark `clean` set
    reports   a second, or a fifth of a budget below five: spans and errors that wait are sent

What a phase does not need, the later ones have. When the budget is over the process ends, whatever hangs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.logs import event

REQUESTS_SHARE = 0.6
WRITES_SHARE = 0.25
CLOSE_S = 2.0
REPORTS_S = 1.0


class Budget:
    """The time of one stop. Made when it begins."""

    def __init__(self, total_s: float, grace_s: float) -> None:
        self._end = time.monotonic() + total_s
        self.grace_s = grace_s
        self.requests_s = (total_s - grace_s) * REQUESTS_SHARE

    @property
    def left_s(self) -> float:
        return max(0.0, self._end - time.monotonic())


def writes_s(left_s: float) -> float:
    """For the lanes, of what is left when nothing is taken any more."""
    return left_s * WRITES_SHARE


def log_s(left_s: float) -> float:
    """For the end of the log, of what is left when the lanes have ended."""
    return left_s - min(CLOSE_S, left_s / 2)


def reports_s(total_s: float) -> float:
    """Kept for the reports when somebody wants them."""
    return min(REPORTS_S, total_s / 5)


@contextmanager
def phase(name: str, at_most_s: float) -> Iterator[None]:
    """Says how long it took, also when it failed."""
    started = time.monotonic()
    try:
        yield
    finally:
        event(logging.INFO, "stop phase", phase=name, seconds=round(time.monotonic() - started, 3), at_most_s=round(at_most_s, 3))
