"""What snapshots fail with. The kinds are chosen by what the caller must do next."""

from __future__ import annotations

from pathlib import Path


class SnapshotError(Exception):
    """Base of everything that crosses the border of this package."""


class Unreachable(SnapshotError):
    """The bucket did not answer, or answered that it cannot now, after all retries: wait. A write may or may not have happened."""


class Refused(SnapshotError):
    """The bucket refuses us or cannot be used (credentials, no such bucket, a setting): an operator must put it right."""


class LocalFault(Refused):
    """The local disk cannot be written or read for another reason than room."""


class Missing(SnapshotError):
    """No such object."""


class Corrupt(SnapshotError):
    """An object differs from what its digest, its chain or its manifest says."""


class Rotten(Corrupt):
    """A file of this disk differs from the digest that it had when it was sealed: its owner makes it again."""

    def __init__(self, message: str, path: Path) -> None:
        """`path`: where it stands in the copy."""
        super().__init__(message)
        self.path = path


class Fenced(SnapshotError):
    """Somebody else owns the prefix: ship nothing more, end."""


class Foreign(SnapshotError):
    """This disk and this bucket do not belong together: an operator must decide."""


class NoRoom(SnapshotError):
    """Too little room on the local disk."""
