"""Comparing what this disk has with the log in the bucket, row by row.

Rows of this disk that are not known to be shipped either are the rows that the bucket has (then they count as shipped), or the bucket has
none of them yet, or it has others: then somebody else went on from the same place, and the two can never be one again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import msgspec

from snapshots.catalog import log_span
from snapshots.errors import Corrupt, SnapshotError
from snapshots.log import LogObject, Place, Row
from snapshots.manifest import Manifest
from snapshots.mark import Mark
from snapshots.prefix import Prefix

REPLAY_BYTES = 4 << 20
"""Log objects of a second are small: so many bytes of them are replayed together."""
READ_BYTES = 4 << 20


class Journal(Protocol):
    """The log of the engine."""

    @property
    def sequence(self) -> int:
        """Of the last committed request."""

    def log_after(self, sequence: int, bytes_max: int) -> Sequence[Row]:
        """Rows behind `sequence` that were not released, in order; at least one if there is one."""

    def replay(self, rows: Sequence[Row]) -> None:
        """Carries out rows that come next; those up to `sequence` are skipped. They are not logged again."""

    def release_log(self, sequence: int) -> None:
        """Rows up to there are in the bucket."""


class Diverged(SnapshotError):
    """The bucket has another row under a sequence that this disk has not shipped."""

    def __init__(self, sequence: int, found: LogObject) -> None:
        super().__init__(
            f"row {sequence} of this disk is not the one in the bucket: another writer ({found.header.writer}, epoch {found.header.epoch}) "
            f"went on from the same place"
        )
        self.sequence = sequence


class Standing(msgspec.Struct, frozen=True):
    """How a disk stands to the log of its lineage. `kind`:

    `fits`: all that both have is the same. `behind`: the same, and the bucket has more.
    `gap`: this disk goes on, but what comes next for the bucket was not kept here (it was served without a bucket meanwhile).
    `pruned`: the bucket has dropped log that this disk would need. `diverged`: see Diverged. `rewritten`: the log has another history.
    `broken`: the log goes on behind an object that is missing or damaged, so nobody can replay what it has there.
    """

    kind: str
    detail: str = ""


def matching(prefix: Prefix, mark: Mark, journal: Journal) -> Iterator[LogObject]:
    """The log from the mark on, as far as it agrees with this disk. Raises Diverged."""
    for found in prefix.follow(mark.lineage, mark.log):
        ours = _ours(journal, found.header.first, found.header.last)
        for row in found.rows:
            own = ours.get(row.sequence)
            if own is not None and own != row:
                raise Diverged(row.sequence, found)
        yield found


def _ours(journal: Journal, first: int, last: int) -> dict[int, Row]:
    """Rows of this disk from `first` to `last` that were not released. One read may give fewer: a row here may be larger than there."""
    ours: dict[int, Row] = {}
    while first <= last and (rows := journal.log_after(first - 1, READ_BYTES)):
        ours.update({row.sequence: row for row in rows})
        first = rows[-1].sequence + 1
    return ours


def compare(prefix: Prefix, newest: Manifest, mark: Mark, journal: Journal) -> Standing:
    """Reads the log from the mark to its end."""
    unshipped = bool(journal.log_after(mark.log.sequence, 1))
    if mark.log.number and mark.log != newest.log:  # else a manifest proves the place, whether or not its object is still there
        there = prefix.log_digest(mark.lineage, mark.log.number)
        if there is None:
            return _missing(prefix, newest, mark, unshipped=unshipped)
        if there != mark.log.digest:
            return Standing("rewritten", f"log object {mark.log.number} ends with {there[:16]}, this disk knows {mark.log.digest[:16]}")
    try:
        end, broken = _end(prefix, newest, mark, journal)
    except Diverged as error:
        return Standing("diverged", str(error))
    if end.number < newest.log.number:
        return _missing(prefix, newest, mark, unshipped=unshipped)
    if broken:
        return Standing("broken", broken)
    if end.sequence > journal.sequence:
        return Standing("behind")
    kept = journal.log_after(end.sequence, 1)
    if journal.sequence > end.sequence and (not kept or kept[0].sequence != end.sequence + 1):
        return Standing(
            "gap", f"the bucket ends at request {end.sequence}, and this disk, at {journal.sequence}, has not kept the next one"
        )
    return Standing("fits")


def _end(prefix: Prefix, newest: Manifest, mark: Mark, journal: Journal) -> tuple[Place, str]:
    """How far the log can be read and agrees with this disk; and, when it goes on behind that, what is in the way. Raises Diverged."""
    try:
        while True:
            for found in matching(prefix, mark, journal):
                mark = msgspec.structs.replace(mark, log=found.place)
            if mark.log.number < newest.log.number or not goes_on(prefix, mark):
                return mark.log, ""
    except Corrupt as error:
        return mark.log, str(error)


def goes_on(prefix: Prefix, mark: Mark) -> bool:
    """Whether more of the log appeared behind what was its end: an owner's last objects. Raises Corrupt at a hole, and when the hint names
    an object that is not there any more."""
    hint = prefix.hint()  # before the list: what it names was there
    hole = ""
    try:
        prefix.require_end(mark.lineage, mark.log)
    except Corrupt as error:
        hole = str(error)
    if not hole and hint is not None and hint.lineage == mark.lineage and hint.log_number > mark.log.number:
        hole = (
            f"log object {mark.log.number + 1} of lineage {mark.lineage} is missing, but the log of {prefix.bucket.url} went on to "
            f"{hint.log_number}: the end of the log is lost, with writes that were acknowledged"
        )
        if prefix.hint() != hint:  # replaced meanwhile
            return True
    if hole and prefix.log_digest(mark.lineage, mark.log.number + 1) is None:
        raise Corrupt(hole)
    return bool(hole)


def _missing(prefix: Prefix, newest: Manifest, mark: Mark, *, unshipped: bool) -> Standing:
    """The log that this disk would need is not there. Taking the bucket's side helps only where its log is whole in itself."""
    if mark.log.number > newest.log.number:
        seen, tail = prefix.hinted(mark.lineage), log_span(prefix, mark.lineage).tail
        kind = "broken" if seen > tail or tail > mark.log.number else "rewritten"
        return Standing(kind, f"log object {mark.log.number}, which this disk shipped, is not there")
    if unshipped:
        return Standing("diverged", f"the bucket was pruned beyond log object {mark.log.number}, the last that this disk knows")
    return Standing("pruned", f"the bucket was pruned beyond log object {mark.log.number}")


def catch_up(prefix: Prefix, mark: Mark, journal: Journal) -> tuple[Mark, int]:
    """Replays what the bucket has more. Returns the mark at the end of the log, and the epoch of its last object. Raises Diverged."""
    epoch, size = 0, 0
    rows: list[Row] = []
    for found in matching(prefix, mark, journal):
        rows += found.rows
        size += found.size
        if size >= REPLAY_BYTES:
            journal.replay(rows)
            rows, size = [], 0
        mark = msgspec.structs.replace(mark, log=found.place)
        epoch = found.header.epoch
    journal.replay(rows)
    return mark, epoch
