"""Processes that stand still: by SIGSTOP, or at a named place."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.system.server import Server, wait_until

STOP_SECONDS = 60.0


def freeze(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGSTOP)
    wait_frozen(server)


def wait_frozen(server: Server) -> None:
    """Until every thread stands still, as a failpoint with `stop` has it."""
    wait_until(lambda: is_frozen(server.process.pid) or server.process.poll() is not None, STOP_SECONDS, "the process to stand still")
    assert server.process.poll() is None, server.log()


def thaw(server: Server) -> None:
    os.kill(server.process.pid, signal.SIGCONT)


def is_frozen(process: int) -> bool:
    try:
        states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{process}/task").glob("*/stat")]
    except (FileNotFoundError, ProcessLookupError):  # a thread ended meanwhile
        return False
    return bool(states) and all(state == "T" for state in states)
