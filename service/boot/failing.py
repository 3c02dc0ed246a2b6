"""For tests: named places at which the process dies (`kill`) or freezes (`stop`), as `TIDEPOOL_FAILPOINTS` says."""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from functools import partial

from snapshots.failpoints import arm

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def arm_all(places: Mapping[str, str]) -> None:
    for name, action in places.items():
        arm(name, partial(_signal_here, ACTIONS[action]))


def _signal_here(number: signal.Signals) -> None:
    """To the calling thread: a signal to the process may come to another one first, and this one goes on for a while."""
    signal.pthread_kill(threading.get_ident(), number)
