"""Rows that another owner made impossible to ship: all of them in a file, whatever was saved before."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from snapshots.errors import Corrupt, SnapshotError
from snapshots.log import Place
from snapshots.mark import FORMAT, Mark
from snapshots.unshipped import read_unshipped, save_unshipped
from tests.snapshots.fakes import MemoryJournal

LINEAGE = "1" * 32


def mark(shipped: int) -> Mark:
    return Mark(FORMAT, LINEAGE, 3, "w" * 32, Place(7, "d" * 64, shipped, 700))


def journal(*bodies: bytes) -> MemoryJournal:
    made = MemoryJournal()
    made.write(*bodies)
    return made


def test_every_row_is_kept(tmp_path: Path) -> None:
    """Also many megabytes, and one that is larger than an object."""
    chance = random.Random(1)
    made = journal(*(chance.randbytes(chance.randrange(3000)) for _ in range(3000)), bytes(5 << 20))
    path = save_unshipped(tmp_path, mark(10), made)
    assert path is not None
    assert path.name.startswith("11-3001.fenced-")
    found = read_unshipped(path)
    assert found.rows == made.rows[10:]
    assert (found.header.lineage, found.header.epoch, found.header.number, found.header.previous) == (LINEAGE, 3, 8, "d" * 64)


def test_nothing_to_keep(tmp_path: Path) -> None:
    """No file."""
    assert save_unshipped(tmp_path, mark(2), journal(b"1", b"2")) is None
    assert list(tmp_path.iterdir()) == []


def test_done_twice(tmp_path: Path) -> None:
    """The same rows are kept once; others of the same numbers beside them, also in the same second."""
    made = journal(b"1", b"2")
    path = save_unshipped(tmp_path, mark(0), made)
    assert save_unshipped(tmp_path, mark(0), made) == path
    others = [save_unshipped(tmp_path, mark(0), journal(b"1", b"other %d" % number)) for number in range(20)]
    assert len({path, *others}) == 21
    for number, other in enumerate(others):
        assert other is not None
        assert read_unshipped(other).rows[1].data == b"other %d" % number


def test_a_file_that_is_damaged(tmp_path: Path) -> None:
    """Is Corrupt to read, stays as it is, and hinders nobody."""
    made = journal(b"1", b"2")
    first = save_unshipped(tmp_path, mark(0), made)
    assert first is not None
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(Corrupt, match=first.name):
        read_unshipped(first)
    second = save_unshipped(tmp_path, mark(0), made)
    assert second is not None
    assert second != first
    assert read_unshipped(second).rows == made.rows


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is an error of ours."""
    with pytest.raises(SnapshotError, match=r"nothing\.log"):
        read_unshipped(tmp_path / "nothing.log")
