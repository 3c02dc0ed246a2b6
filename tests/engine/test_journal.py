"""The log is read as it was written, stays until it is released, and is dropped afterwards."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from service.engine.engine import Engine
from service.engine.errors import Damaged, EngineError
from service.engine.journal import TRIM_ROWS, LogPlace
from service.engine.layout import log_rows, u64
from service.engine.requests import CreateIndex, DeleteAsset, Request
from service.engine.store import Store
from tests.engine.building import META, SMALL, Events, add, asset, create, do, key, opened, unit
from tests.engine.history import KEPT, whole_log
from tests.project import ROOT

ZERO = bytes(8)


def fill(engine: Engine, count: int, start: int = 0) -> None:
    """One row for each asset."""
    rng = random.Random(start)
    for number in range(start, start + count):
        add(engine, asset(number, unit(META, rng.randbytes(8))))


def stored_rows(directory: Path) -> list[int]:
    """Sequences in the table of a directory that nobody has open."""
    store = Store(directory / "live")
    try:
        with store.read() as txn:
            return [int.from_bytes(place, "big") for place, _ in txn.cursor(db=store.log).iternext()]
    finally:
        store.close()


def transactions(engine: Engine) -> int:
    """How many were committed in the life of the file."""
    number: int = engine._store._env.info()["last_txnid"]
    return number


def sequences(engine: Engine, after: int = 0) -> list[int]:
    return [row.sequence for row in engine.log_after(after, 1 << 30)]


def trim_in_background(engine: Engine) -> None:
    """Steps until all released rows are gone."""
    deadline = time.monotonic() + 30
    while engine._journal._oldest is not None and engine._journal._oldest <= engine._journal._released:
        if not engine.upkeep_step():
            threading.Event().wait(0.02)
        assert time.monotonic() < deadline


def test_rows_are_the_requests_as_they_were_committed(tmp_path: Path) -> None:
    """In order, each with its time; what was refused or changed nothing has none."""
    with opened(tmp_path, KEPT) as engine:
        before_us = time.time_ns() // 1_000
        requests: list[Request] = [CreateIndex("a"), CreateIndex("a"), CreateIndex("b"), DeleteAsset("a", 0, key(1))]
        answers = engine.commit(requests)
        assert [isinstance(answer, EngineError) for answer in answers] == [False, True, False, True]
        add(engine, asset(1, unit(META, ZERO)))
        add(engine, asset(1, unit(META, ZERO)))
        rows = whole_log(engine)
        assert [row.sequence for row in rows] == [1, 2, 3]
        decoded = [log_rows.decode(row.data) for row in rows]
        assert [row.request for row in decoded[:2]] == [requests[0], requests[2]]
        assert [row.time_us for row in decoded] == [row.time_us for row in rows]
        assert before_us <= rows[0].time_us <= rows[2].time_us <= time.time_ns() // 1_000
        assert engine.sequence == 3


def test_reading_is_bounded_and_gives_at_least_one(tmp_path: Path) -> None:
    """However little room there is, a reader gets on."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        fill(engine, 20)
        rows = whole_log(engine)
        size = len(rows[5].data)
        assert engine.log_after(5, 0) == rows[5:6]
        assert engine.log_after(5, 3 * size) == rows[5:8]
        assert engine.log_after(5, 3 * size - 1) == rows[5:7]
        assert engine.log_after(21, 1 << 20) == []


def test_without_keeping_rows_of_earlier_groups_are_dropped(tmp_path: Path) -> None:
    """As it was before there was anybody to read them: no more transactions than commits."""
    with opened(tmp_path, SMALL) as engine:
        create(engine)
        before = transactions(engine)
        fill(engine, 10)
        assert sequences(engine) == [11]
        assert transactions(engine) == before + 10
        assert (engine.log_bytes, engine.log_first) == (0, None)
        engine.release_log(11)
        assert engine.log_after(0, 1) != []


def test_released_rows_are_not_shown_and_go_with_the_next_commit(tmp_path: Path) -> None:
    """Bytes and the oldest row follow at once; releasing twice, or less than before, changes nothing."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        fill(engine, 9)
        rows = whole_log(engine)
        assert engine.log_bytes == sum(len(row.data) for row in rows)
        assert engine.log_first == LogPlace(1, rows[0].time_us)
        for released in (6, 6, 3):
            engine.release_log(released)
            assert engine.log_bytes == sum(len(row.data) for row in rows[6:])
            assert engine.log_first == LogPlace(7, rows[6].time_us)
            assert sequences(engine) == [7, 8, 9, 10]
        engine.release_log(10)
        assert engine.log_bytes == 0
        before = transactions(engine)
        add(engine, asset(50, unit(META, ZERO)))
        assert transactions(engine) == before + 1
        last = whole_log(engine)[0]
        assert engine.log_bytes == len(last.data)
        assert engine.log_first == LogPlace(11, last.time_us)
    assert stored_rows(tmp_path) == [11]


def test_release_of_rows_that_are_not_there_is_refused(tmp_path: Path) -> None:
    """Rows that are still to come would be dropped before anybody read them."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        with pytest.raises(Damaged, match="released=2 last=1"):
            engine.release_log(2)
        assert sequences(engine) == [1]


def test_one_commit_deletes_a_bounded_number_of_rows(tmp_path: Path) -> None:
    """The rest goes with the next commits; a group that writes many rows deletes more, so rows never pile up."""
    rows = 4 * TRIM_ROWS
    with opened(tmp_path, KEPT) as engine:
        engine.commit([CreateIndex("a")])
        add(engine, *(asset(number, unit(META, ZERO)) for number in range(3 * rows)))
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(rows)))
        engine.release_log(engine.sequence)
        add(engine, asset(1, unit(META, bytes([1] * 8))))
        assert engine._journal._oldest == TRIM_ROWS + 1
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(rows, rows + 2 * TRIM_ROWS)))
        assert engine._journal._oldest == rows + 3


def test_nothing_is_left_to_show_when_everything_is_released(tmp_path: Path) -> None:
    """No oldest row; the next one is it."""
    with opened(tmp_path, KEPT) as engine:
        assert engine.log_first is None
        create(engine)
        engine.release_log(1)
        assert engine.log_first is None
        assert engine.log_after(0, 1) == []


def test_idle_engine_deletes_what_was_released_and_then_writes_nothing(tmp_path: Path) -> None:
    """One small transaction for a release, and none without one."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        fill(engine, 20)
        before = transactions(engine)
        assert not engine.upkeep_step()
        engine.release_log(15)
        trim_in_background(engine)
        assert transactions(engine) == before + 1
        assert not engine.upkeep_step()
        assert transactions(engine) == before + 1
        assert sequences(engine) == list(range(16, 22))
    assert stored_rows(tmp_path) == list(range(16, 22))


def test_background_thread_deletes_by_itself(tmp_path: Path) -> None:
    """Nobody has to write for it."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        engine.start_background()
        engine.release_log(1)
        deadline = time.monotonic() + 30
        while engine._journal._oldest is not None:
            assert time.monotonic() < deadline
            threading.Event().wait(0.05)
    assert stored_rows(tmp_path) == []


def test_after_a_start_every_row_counts_as_needed_again(tmp_path: Path) -> None:
    """What was released is remembered by whoever released it."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        fill(engine, 9)
        rows = whole_log(engine)
        engine.release_log(4)
    with opened(tmp_path, KEPT) as engine:
        assert whole_log(engine) == rows
        assert engine.log_bytes == sum(len(row.data) for row in rows)
        assert engine.log_first == LogPlace(1, rows[0].time_us)
        assert engine.sequence == 10
        engine.release_log(4)
        assert sequences(engine) == list(range(5, 11))


def test_commit_calls_back_on_its_own_thread_when_there_is_a_row(tmp_path: Path) -> None:
    """After the commit: the rows can be read then. Not for groups that changed nothing, and not for replay."""
    calls: list[tuple[threading.Thread, int]] = []
    with opened(tmp_path / "a", KEPT) as engine, opened(tmp_path / "b", KEPT) as other:
        engine.on_commit(lambda: calls.append((threading.current_thread(), len(whole_log(engine)))))
        create(engine)
        engine.commit([CreateIndex("a")])
        create(engine, "b")
        assert calls == [(threading.current_thread(), 1), (threading.current_thread(), 2)]
        other.on_commit(lambda: calls.clear())
        other.replay(whole_log(engine))
        assert len(calls) == 2


def test_data_of_an_older_version_opens_and_knows_its_time(tmp_path: Path) -> None:
    """Versions before wrote no `time`: it is that of the last row, also after that row was dropped."""
    with opened(tmp_path / "data", SMALL) as engine:
        create(engine)
        fill(engine, 3)
    store = Store(tmp_path / "data" / "live")
    with store.write(0) as txn:
        txn.delete(b"time", db=store.meta)
        time_us = log_rows.decode(txn.get(u64(4), b"", db=store.log)).time_us
    store.close()
    with opened(tmp_path / "data", KEPT) as engine:
        assert engine.export(tmp_path / "before").time_us == time_us
        engine.release_log(4)
        trim_in_background(engine)
        assert sequences(engine) == []
        assert engine.export(tmp_path / "after").time_us == time_us


def test_time_is_that_of_the_last_row_when_an_older_version_wrote_last(tmp_path: Path) -> None:
    """It leaves a `time` behind that is too old."""
    with opened(tmp_path / "data", SMALL) as engine:
        create(engine)
        time_us = whole_log(engine)[0].time_us
    store = Store(tmp_path / "data" / "live")
    with store.write(0) as txn:
        txn.put(b"time", u64(5), db=store.meta)
    store.close()
    with opened(tmp_path / "data", KEPT) as engine:
        assert engine.export(tmp_path / "copy").time_us == time_us


def write_and_release(directory: Path) -> None:
    """The process that is killed. Says what it released."""
    events: Events = []
    engine = Engine.open(directory, KEPT, on_event=lambda name, facts: events.append((name, facts)))
    engine.catch_up()
    engine.start_background()
    if engine.sequence == 0:
        create(engine)
    while True:
        fill(engine, 7, start=engine.sequence)
        released = engine.sequence - 3
        engine.release_log(released)
        sys.stdout.write(f"{released}\n")
        sys.stdout.flush()


@pytest.mark.parametrize("until", [4, 100, 400])
def test_killed_while_rows_are_dropped(tmp_path: Path, until: int) -> None:
    """What is left is a run up to the last request; nothing that was not released is gone."""
    script = "import sys; from pathlib import Path; from tests.engine.test_journal import write_and_release; "
    command = [sys.executable, "-c", script + "write_and_release(Path(sys.argv[1]))", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        said = next(int(line) for line in child.stdout if int(line) >= until)
        child.kill()
        said = max([said, *(int(line) for line in child.stdout.read().split("\n")[:-1] if line)])
    with opened(tmp_path, KEPT) as engine:
        rows = sequences(engine)
        assert rows == list(range(rows[0], engine.sequence + 1))
        assert rows[0] <= said + 1
        assert engine.log_bytes == sum(len(row.data) for row in whole_log(engine))
        engine.release_log(said)
        add(engine, asset(1, unit(META, ZERO)))
        assert sequences(engine)[0] == said + 1
    assert stored_rows(tmp_path)[0] == said + 1


def test_rows_piled_up_are_dropped_when_they_are_not_kept_any_more(tmp_path: Path) -> None:
    """Somebody turned the snapshots off: a bounded number with each commit."""
    with opened(tmp_path, KEPT) as engine:
        create(engine)
        add(engine, *(asset(number, unit(META, ZERO)) for number in range(3 * TRIM_ROWS)))
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(2 * TRIM_ROWS)))
    with opened(tmp_path, msgspec.structs.replace(KEPT, keep_log=False)) as engine:
        for number in range(3):
            add(engine, asset(number, unit(META, ZERO)))
        assert sequences(engine) == [engine.sequence]
