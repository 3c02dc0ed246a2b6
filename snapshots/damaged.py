"""What somebody found wrong in the bucket, kept in the data directory until a checkpoint has put it right.

    <data>/damaged/<sha256>                          a blob that is missing or not what its name says
    <data>/damaged/<lineage>-<number, 20 digits>     a log object that is missing or damaged

The files are empty: a name is all that is to be known. One for each, so a command may add some while a service removes others.
A service makes the folder when it starts to own the prefix; where there is none, nobody would read it, and nothing is noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from snapshots.files import local_errors, sync_directory
from snapshots.manifest import Manifest

FOLDER = "damaged"
_BLOB = re.compile(r"[0-9a-f]{64}")
_BREAK = re.compile(r"([0-9a-f]{32})-(\d{20})")


class Break(msgspec.Struct, frozen=True):
    """Where a log cannot be replayed any further."""

    lineage: str
    number: int

    def is_behind(self, manifest: Manifest) -> bool:
        """Whether a restore of it to the end of the log comes by here."""
        return self.lineage == manifest.lineage and self.number > manifest.log.number


class Noted(msgspec.Struct, frozen=True):
    """What is wrong in the bucket, as far as somebody found it."""

    blobs: frozenset[str] = frozenset()
    breaks: frozenset[Break] = frozenset()

    def is_needed_by(self, checkpoint: Manifest) -> bool:
        """Whether a restore of it to the end of the log fails on something here: the next checkpoint puts that right."""
        return not self.blobs.isdisjoint(checkpoint.pieces) or any(each.is_behind(checkpoint) for each in self.breaks)

    def mended_by(self, checkpoint: Manifest) -> Noted:
        """What is no trouble any more with a checkpoint that was made knowing this."""
        return Noted(self.blobs & checkpoint.pieces, frozenset(each for each in self.breaks if not each.is_behind(checkpoint)))


def make_folder(directory: Path) -> None:
    with local_errors(directory):
        (directory / FOLDER).mkdir(exist_ok=True)


def note(directory: Path, found: Noted) -> bool:
    """May be done twice. False when nobody serves this directory."""
    folder = directory / FOLDER
    with local_errors(folder):
        if not folder.is_dir():
            return False
        for name in _names(found):
            (folder / name).touch()
        sync_directory(folder)
    return True


def noted(directory: Path) -> Noted:
    """Names that are none of ours count for nothing."""
    folder = directory / FOLDER
    with local_errors(folder):
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    breaks = (_BREAK.fullmatch(name) for name in names)
    return Noted(
        frozenset(name for name in names if _BLOB.fullmatch(name)),
        frozenset(Break(match[1], int(match[2])) for match in breaks if match is not None),
    )


def forget(directory: Path, mended: Noted) -> None:
    """May be done twice."""
    with local_errors(directory / FOLDER):
        for name in _names(mended):
            (directory / FOLDER / name).unlink(missing_ok=True)


def _names(found: Noted) -> Iterable[str]:
    return [*found.blobs, *(f"{each.lineage}-{each.number:020d}" for each in found.breaks)]
