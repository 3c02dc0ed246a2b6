"""Rows that cannot be shipped any more, because somebody else owns the prefix: kept in a file of their own, as a log object."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from snapshots.errors import Corrupt
from snapshots.files import local_errors, write_whole
from snapshots.log import Header, LogObject, Row, freeze, thaw
from snapshots.mark import Mark
from snapshots.walk import Journal

READ_BYTES = 1 << 40


def save_unshipped(directory: Path, mark: Mark, journal: Journal) -> Path | None:
    """The file, None when there is nothing to keep. Rows that were saved before are not saved again."""
    rows = list(journal.log_after(mark.log.sequence, READ_BYTES))
    if not rows:
        return None
    name = f"{rows[0].sequence}-{rows[-1].sequence}.fenced-"
    for path in sorted(directory.glob(f"{name}*.log")):
        if _holds(path, rows):
            return path
    path = directory / f"{name}{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.log"
    write_whole(path, freeze(_header(mark, rows), rows)[0])
    return path


def unshipped_files(directory: Path) -> list[Path]:
    """Those that nobody has removed yet."""
    return sorted(directory.glob("*.fenced-*.log"))


def read_unshipped(path: Path) -> LogObject:
    """Raises Corrupt."""
    with local_errors(path):
        data = path.read_bytes()
    return thaw(str(path), data)


def _holds(path: Path, rows: list[Row]) -> bool:
    """A file that is damaged holds nothing for certain, and hinders nobody."""
    try:
        return read_unshipped(path).rows == rows
    except Corrupt:
        return False


def _header(mark: Mark, rows: list[Row]) -> Header:
    return Header(
        lineage=mark.lineage,
        epoch=mark.epoch,
        writer=mark.writer,
        number=mark.log.number + 1,
        previous=mark.log.digest,
        first=rows[0].sequence,
        last=rows[-1].sequence,
        rows=len(rows),
        created_us=time.time_ns() // 1000,
    )
