"""A log that is carried out again gives the same state, or an error."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from service.engine.engine import Engine
from service.engine.errors import Damaged, NoSpace
from service.engine.journal import LogRecord
from service.engine.layout import FORMAT, LogRow, encode
from service.engine.replay import GROUP_BYTES
from service.engine.requests import AddAssets, CreateIndex, DeleteAsset, Request
from tests.engine.building import CONTENT, META, add, asset, create, do, key, opened, random_units, search, settle, unit
from tests.engine.history import KEPT, make_history, pieces, tables, whole_log
from tests.project import ROOT


def record(sequence: int, request: Request, row_format: int = FORMAT) -> LogRecord:
    return LogRecord(sequence, sequence, encode(LogRow(sequence, row_format, request)))


@pytest.mark.parametrize("seed", range(6))
def test_whole_log_gives_the_same_state(tmp_path: Path, seed: int) -> None:
    """Every table, every number, whether it comes in one piece or in many."""
    log = make_history(tmp_path / "original", seed)
    assert len(log) > 300
    expected = tables(tmp_path / "original")
    rng = random.Random(seed)
    for name, parts in (("one", [log]), ("many", list(pieces(log, rng))), ("single", [[row] for row in log])):
        with opened(tmp_path / name, KEPT) as engine:
            for part in parts:
                engine.replay(part)
            assert engine.sequence == log[-1].sequence
            assert engine.log_after(0, 1) == []
        assert tables(tmp_path / name) == expected


def test_log_of_several_groups_with_many_postings_gives_the_same_state(tmp_path: Path) -> None:
    """Postings of one group go in in pieces; updates and deletes are between them."""
    rng = random.Random(7)
    bodies = [rng.randbytes(32) for _ in range(5_000)]
    with opened(tmp_path / "original", KEPT) as original:
        create(original)
        for turn in range(60):
            numbers = rng.sample(range(20_000), 100)
            add(original, *(asset(number, *(unit(CONTENT, rng.choice(bodies)) for _ in range(8))) for number in numbers))
            do(original, *(DeleteAsset("a", 0, key(number)) for number in numbers[: turn % 3]))
        log = whole_log(original)
    assert sum(len(row.data) for row in log) > GROUP_BYTES
    with opened(tmp_path / "copy", KEPT) as engine:
        engine.replay(log)
    assert tables(tmp_path / "copy") == tables(tmp_path / "original")


def test_answers_are_the_same_and_writing_goes_on(tmp_path: Path) -> None:
    """The replayed engine answers as the original; a write gets the next number and is all that is logged."""
    rng = random.Random(1)
    units = [random_units(rng) for _ in range(200)]
    with opened(tmp_path / "a", KEPT) as original, opened(tmp_path / "b", KEPT) as engine:
        create(original)
        for number, found in enumerate(units):
            add(original, asset(number, *found))
        engine.replay(whole_log(original))
        settle(engine)
        for found in units:
            assert search(engine, *found) == search(original, *found)
        add(engine, asset(1_000, *units[0]))
        assert [row.sequence for row in engine.log_after(0, 1 << 20)] == [original.sequence + 1]
        assert engine.log_first is not None
        assert engine.log_first.sequence == original.sequence + 1


def test_replay_while_the_background_seals_and_frees(tmp_path: Path) -> None:
    """The same state, and searches see whole requests meanwhile."""
    log = make_history(tmp_path / "original", 20, count=1_500)
    expected = tables(tmp_path / "original")
    with opened(tmp_path / "copy", KEPT) as engine:
        engine.start_background()
        for part in pieces(log, random.Random(2)):
            engine.replay(part)
            engine.stats()
    with opened(tmp_path / "copy", KEPT) as engine:
        settle(engine)
    with opened(tmp_path / "original", KEPT) as engine:
        settle(engine)  # what deleted indexes left is freed in both
    found, settled = tables(tmp_path / "copy"), tables(tmp_path / "original")
    assert found == settled
    assert found["indexes"] == expected["indexes"]


def test_rows_that_are_here_already_are_skipped(tmp_path: Path) -> None:
    """Done twice is done once; also when old and new rows come together."""
    log = make_history(tmp_path / "original", 30)
    with opened(tmp_path / "copy", KEPT) as engine:
        engine.replay(log[:100])
        engine.replay(log[:100])
        engine.replay(log[50:])
        engine.replay([])
        assert engine.sequence == log[-1].sequence
    assert tables(tmp_path / "copy") == tables(tmp_path / "original")


def test_gap_is_damage_that_names_both_numbers(tmp_path: Path) -> None:
    """Nothing of the group is carried out."""
    log = make_history(tmp_path / "original", 31)
    with opened(tmp_path / "copy", KEPT) as engine:
        with pytest.raises(Damaged, match="row 1 is missing, the next one is 2"):
            engine.replay(log[1:])
        with pytest.raises(Damaged, match="row 6 is missing, the next one is 7"):
            engine.replay(log[:5] + log[6:])
        assert engine.sequence == 0
        engine.replay(log)
    assert tables(tmp_path / "copy") == tables(tmp_path / "original")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (record(2, CreateIndex("b"), row_format=FORMAT + 1), f"row 2 has format {FORMAT + 1}.*newer version"),
        (LogRecord(2, 2, encode((2, FORMAT + 1, ["merge", "b"]))), f"row 2 has format {FORMAT + 1}.*newer version"),
        (LogRecord(2, 2, b"\xc1"), "row 2 cannot be read"),
        (LogRecord(2, 2, encode((2, FORMAT, ["merge", "b"]))), "row 2 cannot be read"),
        (record(2, CreateIndex("a")), "row 2 does not fit what is stored: Index 'a' already exists"),
        (record(2, DeleteAsset("a", 0, key(1))), "row 2 does not fit what is stored: Asset 'ISCC:MAIAAAAAAAAAAAAB' not found"),
        (record(2, AddAssets("b", [asset(1)])), "row 2 does not fit what is stored: Index 'b' not found"),
        (record(2, AddAssets("a", [asset(1, unit(META, bytes(8)), simprints={"X": []})])), "row 2.* cannot be carried out"),
    ],
)
def test_row_that_does_not_fit_is_damage(tmp_path: Path, row: LogRecord, words: str) -> None:
    """It was accepted once: here it would give another state. The engine stays as it was and can go on."""
    with opened(tmp_path, KEPT) as engine:
        engine.replay([record(1, CreateIndex("a"))])
        with pytest.raises(Damaged, match=words):
            engine.replay([row])
        assert engine.sequence == 1
        add(engine, asset(5, unit(META, bytes(8))))
        assert [match.key for match in search(engine, unit(META, bytes(8))).matches] == [key(5)]


def test_write_that_comes_between_is_found_out(tmp_path: Path) -> None:
    """Its number would be taken for a row that is here already."""
    big = asset(1, unit(META, bytes(8)), metadata=b'{"x": "%s"}' % (b"x" * GROUP_BYTES))
    log = [record(1, CreateIndex("a")), record(2, AddAssets("a", [big])), record(3, DeleteAsset("a", 0, key(1)))]

    class Meddling(list[LogRecord]):
        def __iter__(self) -> Iterator[LogRecord]:
            yield from log[:2]
            do(engine, CreateIndex("b"))
            yield log[2]

    with opened(tmp_path, KEPT) as engine, pytest.raises(Damaged, match="another write came between, before log row 3 last=3"):
        engine.replay(Meddling(log))


def test_lack_of_room_stops_it_between_groups(tmp_path: Path) -> None:
    """What was carried out stays, the rest can come later."""
    with opened(tmp_path, msgspec.structs.replace(KEPT, disk_free_min_bytes=1 << 60)) as engine:
        with pytest.raises(NoSpace):
            engine.replay([record(1, CreateIndex("a"))])
        assert engine.sequence == 0


def replay_row_by_row(directory: Path, log: list[LogRecord]) -> None:
    """The process that is killed. Says how far it is."""
    engine = Engine.open(directory, KEPT, on_event=lambda name, facts: None)
    engine.catch_up()
    engine.start_background()
    for row in log:
        engine.replay([row])
        sys.stdout.write(f"{row.sequence}\n")
        sys.stdout.flush()


@pytest.mark.parametrize("after", [1, 40, 333])
def test_killed_in_between_it_goes_on(tmp_path: Path, after: int) -> None:
    """What was committed is there, and the whole log may come again."""
    log = make_history(tmp_path / "original", 40)
    (tmp_path / "log").write_bytes(encode(log))
    script = (
        "import sys, msgspec; from pathlib import Path; from tests.engine.test_replay import LogRecord, replay_row_by_row; "
        "replay_row_by_row(Path(sys.argv[1]), msgspec.msgpack.decode(Path(sys.argv[2]).read_bytes(), type=list[LogRecord]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "copy"), str(tmp_path / "log")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = next(int(line) for line in child.stdout if int(line) >= after)
        child.kill()
    with opened(tmp_path / "copy", KEPT) as engine:
        assert said <= engine.sequence < log[-1].sequence
        engine.replay(log)
        settle(engine)
    with opened(tmp_path / "original", KEPT) as engine:
        settle(engine)
    assert tables(tmp_path / "copy") == tables(tmp_path / "original")
