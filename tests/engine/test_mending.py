"""Sealed files that rot where they lie: made again while everything goes on; nothing is missing, nothing comes back."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from service.engine.requests import DeleteAsset, DeleteIndex, Raw
from service.engine.verify import verify
from tests.engine.building import SMALL, Events, create, do, flipped, key, opened, search, settle
from tests.engine.test_upkeep import fill, finds, segment_files

REBUILT = "segment file is missing or damaged, rebuilding it from the postings"
GRAPHS = msgspec.structs.replace(SMALL, exact_max_codes=0)


def rot(path: Path, at: int = 0, length: int = 4096) -> None:
    """In place: size, time and inode stay, so that no start notices. Searches that mapped it see it."""
    before = path.stat()
    with path.open("r+b") as file:
        content = bytearray(file.read())
        content[at : at + length] = bytes(byte ^ 255 for byte in content[at : at + length])
        file.seek(0)
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def near(units: list[Raw]) -> list[Raw]:
    """Like these, but for a few bits: identical codes are found without any file."""
    return [Raw(found[:2] + flipped(found[2:], 3)) for found in units]


def test_a_segment_that_rots_is_rebuilt_while_served(tmp_path: Path) -> None:
    """What is written meanwhile is found as well, and what was deleted stays away."""
    events: Events = []
    with opened(tmp_path, SMALL, events) as engine:
        create(engine)
        units = fill(engine, 500)
        settle(engine)
        do(engine, DeleteAsset("a", 0, key(7)))
        damaged = segment_files(tmp_path)
        asked = [near(found) for found in units if found != units[8]]
        answers = [search(engine, *found) for found in asked]
        for path in damaged:
            rot(path)
        assert [search(engine, *found) for found in asked] != answers
        for path in damaged:
            engine.doubt(path.name)
        assert engine.upkeep_step()
        do(engine, DeleteAsset("a", 0, key(8)))
        settle(engine)
        rebuilt = [facts["file"] for name, facts in events if name == REBUILT]
        assert engine.stats().done.segments_rebuilt == len(rebuilt) > 0
        assert set(rebuilt) <= {str(path) for path in damaged}
        assert not any(path.exists() for path in damaged)
        assert finds(engine, units[7]) == finds(engine, units[8]) == []
        assert [search(engine, *found) for found in asked] == answers
    assert verify(tmp_path) == []
    with opened(tmp_path) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        assert [search(engine, *found) for found in asked] == answers


@pytest.mark.parametrize("file", ["0011223344556677.segment", "other", ""])
def test_a_doubt_without_reason_changes_nothing(tmp_path: Path, file: str) -> None:
    """A file that is whole, or gone, or no name."""
    with opened(tmp_path) as engine:
        create(engine)
        fill(engine, 200)
        settle(engine)
        before = segment_files(tmp_path)
        engine.doubt(file)
        for path in before:
            engine.doubt(path.name)
        settle(engine)
        assert segment_files(tmp_path) == before
        assert engine.stats().done.segments_rebuilt == 0


def test_one_segment_that_rots(tmp_path: Path) -> None:
    """It alone is replaced, by the same rows."""
    with opened(tmp_path) as engine:
        create(engine)
        fill(engine, 500)
        settle(engine)
        before = segment_files(tmp_path)
        content = before[0].read_bytes()
        rows = engine.stats().segment_rows
        rot(before[0], 100, 1)
        engine.doubt(before[0].name)
        settle(engine)
        (new,) = set(segment_files(tmp_path)) - set(before)
        assert set(before) - set(segment_files(tmp_path)) == {before[0]}
        assert new.read_bytes() == content
        assert (engine.stats().segment_rows, engine.stats().dead_rows, engine.stats().done.segments_rebuilt) == (rows, 0, 1)


def test_an_index_that_goes_takes_its_damage_along(tmp_path: Path) -> None:
    with opened(tmp_path) as engine:
        create(engine)
        fill(engine, 200)
        settle(engine)
        for path in segment_files(tmp_path):
            rot(path)
            engine.doubt(path.name)
        do(engine, DeleteIndex("a"))
        settle(engine)
        assert segment_files(tmp_path) == []


def test_a_graph_that_rots_is_built_again(tmp_path: Path) -> None:
    """Its segment is scanned meanwhile."""
    events: Events = []
    with opened(tmp_path, GRAPHS, events) as engine:
        create(engine)
        units = fill(engine, 100)
        settle(engine)
        damaged = [path for path in segment_files(tmp_path) if path.suffix == ".graph"]
        graphs = engine.stats().graphs
        assert graphs == len(damaged) > 0
        assert all(finds(engine, found)[0] == number for number, found in enumerate(units))
        for path in damaged:
            rot(path, path.stat().st_size // 2, 1)
            engine.doubt(path.name)
        settle(engine)
        assert [name for name, _ in events].count("graph file is missing or damaged, building it again") == len(damaged)
        assert engine.stats().graphs == graphs
        assert not any(path.exists() for path in damaged)
        assert all(finds(engine, found)[0] == number for number, found in enumerate(units))
    assert verify(tmp_path) == []
