"""The next object of the log, frozen: its bytes stay as they are however often it is tried."""

from __future__ import annotations

import time

import msgspec

from snapshots.errors import Corrupt
from snapshots.log import Header, Place, freeze
from snapshots.mark import Mark
from snapshots.walk import Journal


class Shipment(msgspec.Struct, frozen=True):
    """Rows on their way. `is_full`: not all rows that were there had room in it."""

    header: Header
    body: bytes
    digest: str
    is_full: bool

    @property
    def place(self) -> Place:
        """The end of the log with it."""
        return Place(self.header.number, self.digest, self.header.last, self.header.bytes_before + len(self.body))


def next_shipment(mark: Mark, journal: Journal, bytes_max: int) -> Shipment | None:
    """What stands behind the mark, None when that is nothing. Raises Corrupt when the next row is not there: the log never has a gap."""
    end, last = mark.log, journal.sequence
    rows = [row for row in journal.log_after(end.sequence, bytes_max) if row.sequence <= last]
    if last > end.sequence and (not rows or rows[0].sequence != end.sequence + 1):
        raise Corrupt(f"this disk ends at request {last}, but has not kept request {end.sequence + 1}, which was not shipped")
    if not rows:
        return None
    header = Header(
        lineage=mark.lineage,
        epoch=mark.epoch,
        writer=mark.writer,
        number=end.number + 1,
        previous=end.digest,
        first=rows[0].sequence,
        last=rows[-1].sequence,
        rows=len(rows),
        created_us=time.time_ns() // 1000,
        bytes_before=end.bytes,
    )
    body, digest = freeze(header, rows)
    return Shipment(header, body, digest, rows[-1].sequence < last)
