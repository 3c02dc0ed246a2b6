"""For tests: named places at which the process dies (`kill`) or freezes (`stop`), as `TIDEPOOL_FAILPOINTS` says."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial

from snapshots.failpoints import arm

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def arm_all(places: Mapping[str, str]) -> None:
    for name, action in places.items():
        arm(name, partial(os.kill, os.getpid(), ACTIONS[action]))
