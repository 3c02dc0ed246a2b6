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

from service.engine.errors import Damaged, Unwritable

ROOT = Path(__file__).parents[2]
EXIT_DAMAGED = 78
DAMAGE_SIGNALS = (signal.SIGABRT, signal.SIGBUS, signal.SIGSEGV)


def require_whole(directory: Path) -> None:
    """Raises Damaged when a page that is in use cannot be read. No process may have the file open for writing."""
    child = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", "service.engine.walk", str(directory.absolute())],
        cwd=ROOT,
        process_group=0,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode == 0:
        return
    reason = signal.Signals(-child.returncode).name if child.returncode < 0 else (child.stderr.strip().splitlines() or ["unknown"])[-1]
    if child.returncode == EXIT_DAMAGED or -child.returncode in DAMAGE_SIGNALS:
        raise Damaged(
            f"{directory / 'data.mdb'} is damaged, reading it ends with {reason}: "
            "move it away and restore a copy (`tidepool verify` tells more)"
        )
    raise Unwritable(f"{directory / 'data.mdb'} could not be checked, the process that reads it ended with {reason}: start again")


def _walk(directory: str) -> int:
    try:
        env = lmdb.open(directory, readonly=True, lock=False, lib_version=0)
        env.copyfd(os.open(os.devnull, os.O_WRONLY), compact=True)
    except lmdb.Error as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_DAMAGED
    return 0


if __name__ == "__main__":
    sys.exit(_walk(sys.argv[1]))
