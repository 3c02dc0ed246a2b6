"""`python -m tests.system.tidy BUCKET DAYS`: prunes and sweeps a directory as an owner would do so many days from now."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from service.boot.failing import arm_all
from service.settings import process_failpoints
from snapshots import prune, sweep
from snapshots.directory import DirectoryBucket
from snapshots.prefix import Prefix

DAY_US = 86_400_000_000


def main() -> None:
    arm_all(process_failpoints())
    prefix = Prefix(DirectoryBucket(Path(sys.argv[1])))
    now_us = time.time_ns() // 1000 + int(sys.argv[2]) * DAY_US
    prune.carry_out(prefix, prune.plan(prefix, now_us))
    sweep.carry_out(prefix, sweep.plan(prefix, now_us))


if __name__ == "__main__":
    main()
