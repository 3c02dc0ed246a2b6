"""Reading every page of an LMDB file in a child process: a damaged page ends the child with a signal, not the service.

Done at open after a stop that was not clean. LMDB itself walks the tree, for a copy that nobody keeps: some gigabytes a second.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import lmdb

from service.engine.errors import Damaged


def require_whole(directory: Path) -> None:
    """Raises Damaged when a page that is in use cannot be read. No process may have the file open for writing."""
    child = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "service.engine.walk", str(directory)], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if child.returncode:
        reason = _signal_name(-child.returncode) if child.returncode < 0 else (child.stderr.strip().splitlines() or ["unknown"])[-1]
        raise Damaged(
            f"{directory / 'data.mdb'} is damaged, reading it ends with {reason}: "
            "move it away and restore a copy (`tidepool verify` tells more)"
        )


def _signal_name(number: int) -> str:
    return signal.Signals(number).name


def _walk(directory: str) -> None:
    env = lmdb.open(directory, readonly=True, lock=False, lib_version=0)
    sink = os.open(os.devnull, os.O_WRONLY)
    env.copyfd(sink, compact=True)


if __name__ == "__main__":
    _walk(sys.argv[1])
