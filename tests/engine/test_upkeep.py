"""The background: sealing, rewriting, rebuilding and opening again lose nothing and bring nothing back."""

from __future__ import annotations

import random
import resource
import sys
from pathlib import Path

import msgspec
import pytest

from service.engine.engine import Engine
from service.engine.errors import Damaged, Fatal, Locked, NoSpace, Unwritable
from service.engine.requests import DeleteAsset, DeleteIndex, Raw
from tests.engine.building import META, SMALL, Events, add, asset, create, do, key, opened, random_units, search, settle, unit


def fill(engine: Engine, count: int, seed: int = 1) -> list[list[Raw]]:
    """Assets 0 … count with random units."""
    rng = random.Random(seed)
    units = [random_units(rng) for _ in range(count)]
    add(engine, *(asset(number, *found) for number, found in enumerate(units)))
    return units


def finds(engine: Engine, units: list[Raw]) -> list[int]:
    return [int.from_bytes(match.key, "big") for match in search(engine, *units).matches]


def segment_files(directory: Path) -> list[Path]:
    return sorted((directory / "live" / "segments").iterdir())


def test_sealed_codes_leave_the_tail_and_are_found(tmp_path: Path) -> None:
    """Sealing moves rows from LMDB's tail to a file; every asset is found before, after, and after opening again."""
    with opened(tmp_path) as engine:
        create(engine)
        units = fill(engine, 500)
        assert all(finds(engine, found) == [number] for number, found in enumerate(units))
        settle(engine)
        stats = engine.stats()
        assert stats.segment_rows + stats.tail_rows == 3 * 500
        assert stats.tail_rows < 3 * 96
        assert all(finds(engine, found) == [number] for number, found in enumerate(units))
    with opened(tmp_path) as engine:
        assert (engine.stats().segment_rows, engine.stats().tail_rows) == (stats.segment_rows, stats.tail_rows)
        assert all(finds(engine, found) == [number] for number, found in enumerate(units))


def test_segments_with_many_dead_rows_are_rewritten(tmp_path: Path) -> None:
    """Deleted assets take their rows with them, and the files shrink."""
    with opened(tmp_path) as engine:
        create(engine)
        units = fill(engine, 500)
        settle(engine)
        before = sum(path.stat().st_size for path in segment_files(tmp_path))
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(0, 500, 2)))
        settle(engine)
        assert engine.stats().done.segments_rewritten > 0
        assert sum(path.stat().st_size for path in segment_files(tmp_path)) < 0.6 * before
        assert all(finds(engine, found) == ([number] if number % 2 else []) for number, found in enumerate(units))


def test_code_that_goes_and_comes_again_and_again_stays_one(tmp_path: Path) -> None:
    """Churn on the same codes leaves neither doubles in an answer nor files that grow for ever."""
    with opened(tmp_path) as engine:
        create(engine)
        units = random_units(random.Random(5))
        for _ in range(400):
            add(engine, asset(1, *units))
            assert finds(engine, units) == [1]
            do(engine, DeleteAsset("a", 0, key(1)))
            settle(engine)
        add(engine, asset(1, *units))
        settle(engine)
        assert finds(engine, units) == [1]
        assert sum(path.stat().st_size for path in segment_files(tmp_path)) <= 3 * 32 * 16


def test_search_older_than_a_rewrite_starts_again(tmp_path: Path) -> None:
    """A view says from which sequence it is complete, so that no search misses what its transaction still sees."""
    with opened(tmp_path) as engine:
        create(engine)
        fill(engine, 300)
        settle(engine)
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(200)))
        sequence = engine.stats().sequence
        settle(engine)
        assert sequence in {column.view().valid_from for _, column in engine._columns}


@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "flipped"])
def test_damaged_segment_is_rebuilt_from_the_postings(tmp_path: Path, damage: str) -> None:
    """Said and counted; nothing is missing afterwards; codes that were deleted do not come back."""
    with opened(tmp_path) as engine:
        create(engine)
        units = fill(engine, 500)
        settle(engine)
        do(engine, DeleteAsset("a", 0, key(7)))
    for path in segment_files(tmp_path)[:4]:
        content = bytearray(path.read_bytes())
        path.unlink()
        if damage == "cut":
            path.write_bytes(content[:-8])
        if damage == "longer":
            path.write_bytes(content + bytes(8))
        if damage == "flipped":
            content[100] ^= 1
            path.write_bytes(content)
    events: Events = []
    with opened(tmp_path, SMALL, events) as engine:
        assert [name for name, _ in events].count("segment file is missing or damaged, rebuilding it from the postings") == 4
        assert engine.stats().done.segments_rebuilt == 4
        assert all(finds(engine, found) == ([] if number == 7 else [number]) for number, found in enumerate(units))
    with opened(tmp_path, SMALL, events) as engine:
        assert engine.stats().done.segments_rebuilt == 0


def test_segment_with_the_right_content_is_adopted_wherever_it_came_from(tmp_path: Path) -> None:
    """A copied file has another time and inode: its digest decides."""
    with opened(tmp_path) as engine:
        create(engine)
        units = fill(engine, 200)
        settle(engine)
    for path in segment_files(tmp_path):
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content)
    with opened(tmp_path) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        assert all(finds(engine, found) == [number] for number, found in enumerate(units))


def test_files_that_no_row_names_are_removed_at_open(tmp_path: Path) -> None:
    """What a crash left behind takes no room for ever."""
    with opened(tmp_path) as engine:
        create(engine)
    stray = [tmp_path / "live" / "segments" / name for name in ("00.segment", "00.segment.tmp", "00.64.graph.tmp")]
    for path in stray:
        path.write_bytes(b"x")
    with opened(tmp_path):
        assert not any(path.exists() for path in stray)


def test_second_engine_is_told_whose_directory_it_is(tmp_path: Path) -> None:
    """The message names the process and the directory; the first goes on."""
    with opened(tmp_path) as engine:
        create(engine)
        with pytest.raises(Locked, match=rf"the data directory {tmp_path} is in use by process \d+"), opened(tmp_path):
            pass
        assert engine.index("a").assets == 0
    with opened(tmp_path):
        pass


@pytest.mark.parametrize(
    ("damage", "words"),
    [("empty", "is empty"), ("garbage", "is no LMDB file"), ("cut", "bytes where its header needs"), ("header", "damaged second header")],
)
def test_damaged_lmdb_file_is_a_clear_error_and_is_left_as_it_is(tmp_path: Path, damage: str, words: str) -> None:
    """Never an empty index, never a crash."""
    with opened(tmp_path) as engine:
        create(engine)
        fill(engine, 100)
    path = tmp_path / "live" / "data.mdb"
    content = bytearray(path.read_bytes())
    if damage == "empty":
        content.clear()
    if damage == "garbage":
        content[:] = b"x" * len(content)
    if damage == "cut":
        del content[len(content) // 2 // 4096 * 4096 :]
    if damage == "header":
        content[4096:8192] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(Damaged, match=words) as error, opened(tmp_path):
        pass
    assert str(path) in str(error.value)
    assert "restore a copy" in str(error.value)
    assert path.read_bytes() == content


def test_damaged_page_is_found_at_the_start_after_a_crash(tmp_path: Path) -> None:
    """Reading it would end this process: a child reads every page first. A page that nothing uses does not matter."""
    with opened(tmp_path) as engine:
        create(engine)
        units = fill(engine, 100)
    path = tmp_path / "live" / "data.mdb"
    whole = path.read_bytes()
    refused = 0
    for page in range(2, 30, 2):
        (tmp_path / "clean").unlink(missing_ok=True)
        path.write_bytes(whole[: page * 4096] + bytes(4096) + whole[(page + 1) * 4096 :])
        try:
            with opened(tmp_path) as engine:
                assert all(finds(engine, found) == [number] for number, found in enumerate(units))
        except Damaged as error:
            assert f"{path} is damaged, reading it ends with" in str(error)  # noqa: PT017 - both outcomes are right, a crash is not
            refused += 1
    assert refused > 5


def test_missing_lmdb_file_beside_segments_is_an_error(tmp_path: Path) -> None:
    """An empty index in its place would look like success."""
    with opened(tmp_path) as engine:
        create(engine)
    (tmp_path / "live" / "data.mdb").unlink()
    with pytest.raises(Damaged, match="is missing, but other files of the index are there"), opened(tmp_path):
        pass


def test_interrupted_first_start_is_repeated(tmp_path: Path) -> None:
    """The environment is made under another name: what a crash left of it does not matter."""
    half = tmp_path / "live.new"
    half.mkdir()
    (half / "data.mdb").write_bytes(b"")
    with opened(tmp_path) as engine:
        create(engine)
        assert not half.exists()


def test_directory_of_the_reference_server_is_refused_untouched(tmp_path: Path) -> None:
    """The message says how to move the data."""
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "index.lmdb").write_bytes(b"theirs")
    with pytest.raises(Damaged, match=r"written by iscc-search \(indexes: books\).*iscc-search add"), opened(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["books", "index.lmdb"]


def test_dead_rows_behind_many_healthy_segments_are_reclaimed(tmp_path: Path) -> None:
    """Every segment gets its turn, however many there are; under steady updates files stay in proportion to what is alive."""
    rng = random.Random(8)
    with opened(tmp_path) as engine:
        create(engine)
        for start in range(0, 6_000, 500):
            add(engine, *(asset(number, unit(META, rng.randbytes(8))) for number in range(start, start + 500)))
            settle(engine)
        assert engine.stats().segments > 64
        for _ in range(120):
            add(engine, *(asset(10_000 + number, unit(META, rng.randbytes(8))) for number in range(96)))
            settle(engine)
        stats = engine.stats()
        assert stats.segment_rows + stats.tail_rows < 1.6 * (6_000 + 96)


def test_failed_seal_leaves_no_file(tmp_path: Path) -> None:
    """On a disk that is too full to name a segment, nothing is written that nobody names."""
    with opened(tmp_path) as engine:
        create(engine)
        fill(engine, 100)
    with opened(tmp_path, msgspec.structs.replace(SMALL, disk_free_min_bytes=1 << 60)) as engine:
        with pytest.raises(NoSpace):
            settle(engine)
        assert segment_files(tmp_path) == []


def test_reader_that_is_killed_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system ends the process that reads the pages, healthy data is not called damaged."""
    with opened(tmp_path) as engine:
        create(engine)
    (tmp_path / "clean").unlink()
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nkill -9 $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    with pytest.raises(Unwritable, match="SIGKILL: start again"), opened(tmp_path):
        pass


def test_nothing_is_written_after_a_failed_commit(tmp_path: Path) -> None:
    """And the stop is not called clean, so that the next start reads every page."""
    with opened(tmp_path) as engine:
        create(engine)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "live" / "data.mdb").stat().st_size, hard))
        try:
            with pytest.raises(Fatal, match="cannot"):
                fill(engine, 2_000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        with pytest.raises(Fatal, match="nothing is written after a failed commit"):
            add(engine, asset(1, unit(META, bytes(8))))
    assert not (tmp_path / "clean").exists()
    with opened(tmp_path) as engine:
        assert engine.index("a").assets == 0


def test_while_the_disk_is_short_only_freeing_goes_on(tmp_path: Path) -> None:
    """Nothing is sealed, everything is found; a deleted index is freed all the same; with room the rest is done at once."""
    short = True
    with opened(tmp_path) as engine:
        engine.shed_when(lambda: short, lambda: False)
        create(engine, "b")
        create(engine)
        units = fill(engine, 500)
        do(engine, DeleteIndex("b"))
        assert (engine.background_queue()["free"], engine.background_queue()["seal"] > 5) == (1, True)
        settle(engine)
        assert engine.stats().segments == 0
        assert engine.background_queue()["free"] == 0
        assert all(finds(engine, found) == [number] for number, found in enumerate(units))
        short = False
        settle(engine)
        assert engine.stats().segments > 0
        assert set(engine.background_queue().values()) == {0}


def test_while_memory_is_short_nothing_is_rewritten(tmp_path: Path) -> None:
    """Sealing goes on, which gives memory back."""
    short = True
    with opened(tmp_path) as engine:
        engine.shed_when(lambda: False, lambda: short)
        create(engine)
        fill(engine, 500)
        settle(engine)
        assert engine.stats().segments > 0
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(0, 500, 2)))
        settle(engine)
        assert engine.stats().done.segments_rewritten == 0
        assert engine.background_queue()["rewrite"] > 0
        short = False
        settle(engine)
        assert engine.stats().done.segments_rewritten > 0
