"""Why a process ends, and with which code."""

from __future__ import annotations

import msgspec

from snapshots.errors import Corrupt, Fenced, Foreign, Missing, NoRoom, Refused, SnapshotError, Unreachable
from snapshots.walk import Diverged

EXIT_FAILED = 1
EXIT_FATAL = 70
EXIT_DAMAGED = 78
SNAPSHOT_EXITS: dict[type[SnapshotError], int] = {
    Missing: 3,
    Corrupt: 4,
    Fenced: 5,
    Diverged: 5,
    Unreachable: 6,
    Refused: EXIT_DAMAGED,
    Foreign: EXIT_DAMAGED,
    NoRoom: EXIT_FAILED,
}
"""What the process ends with when the bucket and this disk cannot go on together."""


class End(msgspec.Struct, frozen=True):
    """Why the process cannot go on, and its exit code."""

    code: int
    reason: str


def exit_code(error: SnapshotError) -> int:
    """What the process ends with."""
    return next((SNAPSHOT_EXITS[kind] for kind in type(error).__mro__ if kind in SNAPSHOT_EXITS), EXIT_FAILED)
