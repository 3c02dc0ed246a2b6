"""Shipping: rows reach the bucket in order and once, whatever happens to answers and to the process; who lost the prefix stores nothing."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapshots import failpoints, files, ship
from snapshots.errors import Corrupt, Fenced, NoRoom, SnapshotError
from snapshots.log import FENCE_BYTES_MAX, LogObject
from snapshots.manifest import EMPTY_LOG
from snapshots.mark import read_mark
from snapshots.paths import log_key
from tests.snapshots.fakes import Died, FakeClock, MemoryJournal, deaths, die
from tests.snapshots.machine import Machine, in_memory, the_log
from tests.system.server import wait_until

MIB = 1 << 20


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Retries come at once; no failpoint outlives its test."""
    monkeypatch.setattr(ship, "RETRY_S", 0.01)
    monkeypatch.setattr(ship, "RETRY_MAX_S", 0.02)
    with deaths():
        yield


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root:
        yield root


def started(root: Path, clock: FakeClock | None = None, interval_s: float = 0.0) -> Machine:
    machine = Machine(root, "a")
    machine.start(clock, interval_s)
    wait_until(lambda: machine.ships._confirmed > float("-inf"), 10, "the first answer")
    machine.bucket.calls.clear()
    return machine


def objects(machine: Machine) -> list[LogObject]:
    """The log with its chain checked."""
    return list(machine.prefix.follow(machine.ships.mark.lineage, EMPTY_LOG))


def test_rows_arrive_in_order_and_once(tmp_path: Path) -> None:
    """Also those that are written while others are shipped."""
    machine = started(tmp_path)
    chance = random.Random(1)
    for _ in range(200):
        machine.write(*(chance.randbytes(chance.randrange(2000)) for _ in range(chance.randrange(1, 4))))
    assert machine.shipped()
    assert the_log(tmp_path) == machine.engine.rows
    assert machine.ships.figures.rows == machine.engine.sequence
    mark = read_mark(machine.live)
    assert mark == machine.ships.mark
    assert mark is not None
    assert mark.log.sequence == machine.engine.sequence
    assert not machine.engine.log_after(0, 1)
    assert machine.stop()


def test_many_threads_wait_for_their_rows(tmp_path: Path) -> None:
    """Each is told once, and only when its row is in the bucket."""
    machine = started(tmp_path)
    told: list[tuple[int, SnapshotError | None, bool]] = []
    done = threading.Barrier(9)

    def write() -> None:
        for _ in range(20):
            sequence = machine.engine.write(b"x")
            heard = threading.Event()

            def settle(error: SnapshotError | None, sequence: int = sequence, heard: threading.Event = heard) -> None:
                told.append((sequence, error, machine.ships.mark.log.sequence >= sequence))
                heard.set()

            machine.ships.when_shipped(sequence, settle)
            assert heard.wait(20)
        done.wait(20)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    done.wait(20)
    for thread in threads:
        thread.join()
    assert sorted(sequence for sequence, _, _ in told) == list(range(1, 161))
    assert all(error is None and in_bucket for _, error, in_bucket in told)
    machine.stop()


def test_a_backlog_is_cut_between_rows(tmp_path: Path) -> None:
    """Objects of about 4 MiB; a row that is larger has one of its own."""
    machine = started(tmp_path)
    machine.bucket.down = True
    sizes = [300_000] * 40 + [5 * MIB] + [10] * 1000
    machine.engine.write(*(bytes([number % 251]) * size for number, size in enumerate(sizes)))
    machine.bucket.down = False
    assert machine.shipped()
    found = [each for each in objects(machine) if each.rows]
    assert [row for each in found for row in each.rows] == machine.engine.rows
    assert all(each.size <= 4 * MIB + 40_000 or len(each.rows) == 1 for each in found)
    assert len(found) <= 8
    assert found[-1].place.bytes == sum(each.size for each in objects(machine))
    machine.stop()


@pytest.mark.parametrize("plan", [["before"], ["after"], ["before", "after"], ["after", "before", "before"], ["before"] * 5])
def test_an_unknown_outcome(tmp_path: Path, plan: list[str]) -> None:
    """The same bytes are tried again under the same number; what was written meanwhile is for the next object."""
    machine = started(tmp_path)
    machine.bucket.plans["create"] = list(plan)
    first = machine.write(b"first")
    wait_until(lambda: machine.ships.figures.failures > 0 or machine.ships.mark.log.sequence >= first, 10, "a failure")
    machine.engine.write(b"second")
    assert machine.shipped()
    rows = [[row.data for row in each.rows] for each in objects(machine) if each.rows]
    assert rows == [[b"first"], [b"second"]]
    assert machine.bucket.keys("create") == [log_key(machine.ships.mark.lineage, 2)] * (len(plan) + 1) + [
        log_key(machine.ships.mark.lineage, 3)
    ]
    assert machine.ships.trouble is None
    machine.stop()


@pytest.mark.parametrize("place", ["ship.frozen", "ship.created", "ship.marked"])
@pytest.mark.parametrize("trimmed", [True, False])
def test_killed_while_shipping(tmp_path: Path, place: str, *, trimmed: bool) -> None:
    """The next start finds what is there, ships the rest, nothing twice; and again when killed at the same place again."""
    machine = started(tmp_path)
    for number in range(3):
        dead = threading.Event()

        def kill(dead: threading.Event = dead) -> None:
            dead.set()
            die()

        failpoints.arm(place, kill)
        machine.write(b"%d" % number, b"more")
        assert dead.wait(10)
        failpoints.disarm()
        machine.kill(trimmed=trimmed)
        machine.start()
    assert machine.shipped()
    assert the_log(tmp_path) == machine.engine.rows
    assert machine.engine.sequence == 6
    machine.stop()


@pytest.mark.parametrize("fate", ["wakes", "asks"])
def test_another_owner_fences(tmp_path: Path, fate: str) -> None:
    """Before anything else is stored, by the next shipment or by the next question; waiting writes are told."""
    clock = FakeClock()
    machine, other = started(tmp_path, clock), Machine(tmp_path, "b")
    machine.write(b"1")
    assert machine.shipped()
    other.claim()
    machine.bucket.calls.clear()
    told: list[SnapshotError | None] = []
    if fate == "wakes":
        machine.engine.write(b"2")
        machine.ships.when_shipped(2, told.append)
    else:
        clock.advance(ship.ASK_S)
    wait_until(lambda: bool(machine.ended), 10, "the end of the shipper")
    (error,) = machine.ended
    assert isinstance(error, Fenced)
    assert "writer b-" in str(error)
    assert told == ([error] if fate == "wakes" else [])
    assert machine.bucket.count()["create"] == (1 if fate == "wakes" else 0)
    assert machine.bucket.count()["replace"] + machine.bucket.count()["put_file"] == 0
    with pytest.raises(Fenced):
        machine.ships.confirm()
    with pytest.raises(Fenced):
        machine.ships.wait_shipped(9, 1)
    assert machine.ships.wait_shipped(1, 1)
    assert not machine.ships.stop(10)
    assert len(the_log(tmp_path)) == 1


def test_confirm_asks_after_a_silence(tmp_path: Path) -> None:
    """At once while the bucket answered lately; after a jump of the clock not before it answered again."""
    clock = FakeClock()
    machine = started(tmp_path, clock)
    machine.ships.confirm()
    assert machine.bucket.count() == {}
    clock.await_standing()
    clock.advance(ship.CERTAIN_S + 3600)
    machine.ships.confirm()
    assert machine.bucket.count()["head"] == 1
    machine.ships.confirm()
    assert machine.bucket.count()["head"] == 1
    machine.stop()


def test_only_one_commit_waits_for_a_bucket_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first waits its time in vain, the next ones not at all; after an answer certainty is asked for again."""
    waits: list[float] = []
    wait_for = threading.Condition.wait_for

    def counted(self: threading.Condition, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        waits.append(timeout or 0.0)
        return wait_for(self, predicate, timeout)

    clock, answer = FakeClock(), threading.Event()
    machine = started(tmp_path, clock)
    clock.await_standing()

    def hold(name: str, _: str) -> None:
        if name == "head":
            answer.wait(30)

    machine.bucket.gate = hold
    clock.advance(ship.CERTAIN_S + 1)
    monkeypatch.setattr(ship, "CONFIRM_S", 0.1)
    monkeypatch.setattr(threading.Condition, "wait_for", counted)
    machine.ships.confirm()
    machine.ships.confirm()
    assert waits.count(0.1) == 1
    answer.set()
    clock.await_standing()
    clock.advance(ship.CERTAIN_S + 1)
    monkeypatch.setattr(ship, "CONFIRM_S", 10.0)
    machine.ships.confirm()
    assert waits.count(10.0) == 1
    assert machine.bucket.count()["head"] == 2
    machine.stop()


def test_confirm_after_a_take_over(tmp_path: Path) -> None:
    """A process that was frozen finds out before it commits."""
    clock = FakeClock()
    machine, other = started(tmp_path, clock), Machine(tmp_path, "b")
    clock.await_standing()
    other.claim()
    clock.advance(ship.CERTAIN_S)
    with pytest.raises(Fenced, match="writer b-"):
        machine.write(b"never")
    assert machine.engine.sequence == 0
    machine.stop()


def test_confirm_at_first(tmp_path: Path) -> None:
    """A claim says nothing of the moment in which the shipper begins: the process may have been frozen between."""
    machine = Machine(tmp_path, "a")
    machine.claim()
    Machine(tmp_path, "b").claim()
    machine.ship(FakeClock())
    with pytest.raises(Fenced, match="writer b-"):
        machine.write(b"never")
    assert machine.engine.sequence == 0


@pytest.mark.parametrize("where", ["head", "create"])
def test_an_answer_that_lay_unread_while_the_process_was_frozen(tmp_path: Path, where: str) -> None:
    """Counts from when the question was asked: the commit after it asks again."""
    clock = FakeClock()
    machine, other = started(tmp_path, clock), Machine(tmp_path, "b")
    clock.await_standing()
    jumped = threading.Event()

    def freeze() -> None:
        if not jumped.is_set() and machine.bucket.calls[-1][0] == where:
            other.claim()
            clock.advance(3600)
            jumped.set()

    machine.bucket.after = freeze
    if where == "head":
        clock.advance(ship.CERTAIN_S)
        with pytest.raises(Fenced):
            machine.write(b"never")
    else:
        machine.write(b"1")
        assert jumped.wait(10)
        with pytest.raises(Fenced):
            machine.write(b"never")
    assert b"never" not in [row.data for row in machine.engine.rows]
    machine.stop()


def test_local_writes_go_on_without_the_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Confirming raises nothing and waits for nobody while shipping fails; afterwards all is shipped."""
    monkeypatch.setattr(ship, "CERTAIN_S", 0.0)
    monkeypatch.setattr(ship, "CONFIRM_S", 30.0)
    machine = started(tmp_path)
    machine.bucket.down = True
    machine.write(b"0")
    wait_until(lambda: machine.ships.trouble is not None, 10, "trouble")
    for number in range(50):
        machine.write(b"%d" % number)
    assert not machine.ships.wait_shipped(51, 0.05)
    machine.bucket.down = False
    assert machine.shipped()
    assert the_log(tmp_path) == machine.engine.rows
    machine.stop()


def test_an_idle_owner_costs_one_look_in_eight_seconds(tmp_path: Path) -> None:
    """In 10,000 seconds: nothing is written, nothing listed."""
    clock = FakeClock()
    machine = started(tmp_path, clock, interval_s=1.0)
    clock.await_standing()
    clock.let_pass(10_000.0)
    assert machine.bucket.count() == {"head": 10_000 // ship.ASK_S}
    assert set(machine.bucket.keys("head")) == {log_key(machine.ships.mark.lineage, 2)}
    machine.stop()


def test_the_interval(tmp_path: Path) -> None:
    """Rows that nobody waits for are gathered; one that somebody waits for goes at once, with all before it."""
    clock = FakeClock()
    machine = started(tmp_path, clock, interval_s=5.0)
    machine.engine.write(b"1")
    assert machine.shipped()
    clock.await_standing()
    for _ in range(10):
        machine.engine.write(b"x")
    clock.advance(4.0)
    clock.await_standing()
    assert machine.bucket.count()["create"] == 1
    clock.advance(1.0)
    wait_until(lambda: machine.ships.mark.log.sequence == 11, 10, "the shipment")
    machine.engine.write(b"y", b"z")
    assert machine.ships.wait_shipped(12, 10)
    assert [len(each.rows) for each in objects(machine)] == [0, 1, 10, 2]
    machine.stop()


def test_one_who_waits_for_the_end_of_a_backlog(tmp_path: Path) -> None:
    """Does not wait for the interval between its objects."""
    clock = FakeClock()
    machine = started(tmp_path, clock, interval_s=100.0)
    machine.engine.write(b"1")
    assert machine.shipped()
    machine.bucket.down = True
    machine.engine.write(*[b"x" * MIB] * 9)
    machine.bucket.down = False
    assert machine.shipped()
    assert [len(each.rows) for each in objects(machine)] == [0, 1, 4, 4, 1]
    assert clock.now_s() == 0.0
    machine.stop()


def test_a_backlog_does_not_wait_for_the_interval(tmp_path: Path) -> None:
    """Who writes more than an object takes in one interval is not left behind."""
    clock = FakeClock()
    machine = started(tmp_path, clock, interval_s=100.0)
    machine.engine.write(b"1")
    assert machine.shipped()
    machine.engine.write(*[b"x" * MIB] * 9)
    machine.ships.wake()
    clock.let_pass(100.0)
    wait_until(lambda: machine.ships.mark.log.sequence == 10, 10, "the backlog")
    assert [len(each.rows) for each in objects(machine)] == [0, 1, 4, 4, 1]
    assert clock.now_s() == 100.0
    machine.stop()


def test_stop_ships_the_rest(tmp_path: Path) -> None:
    """Without waiting for the interval; True says that the bucket has everything."""
    clock = FakeClock()
    machine = started(tmp_path, clock, interval_s=100.0)
    machine.engine.write(b"1")
    assert machine.shipped()
    machine.engine.write(b"2", b"3")
    assert machine.ships.stop(10)
    assert the_log(tmp_path) == machine.engine.rows


def test_stop_ships_rows_that_nobody_announced(tmp_path: Path) -> None:
    """The last commit may not have woken the shipper yet."""
    machine = started(tmp_path)
    wait_until(lambda: not machine.ships._dirty, 10, "rest")
    machine.engine.on_commit = lambda: None
    machine.engine.write(b"1")
    assert machine.ships.stop(10)
    assert the_log(tmp_path) == machine.engine.rows


def test_stop_without_a_bucket(tmp_path: Path) -> None:
    """False after the time is over. The rows are on the disk, and the next start ships them."""
    machine = started(tmp_path)
    machine.bucket.down = True
    machine.write(b"1")
    assert not machine.ships.stop(0.2)
    assert machine.engine.log_after(0, 1)
    machine.bucket.down = False
    wait_until(lambda: machine.ships.mark.log.sequence == 1, 10, "the stopping shipper reaches the bucket after all")
    machine.kill()
    machine.start()
    assert machine.shipped()
    assert the_log(tmp_path) == machine.engine.rows
    machine.stop()


def test_a_full_disk_does_not_end_the_shipper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object is in the bucket, the mark is written once there is room."""
    machine = started(tmp_path)
    full = [True] * 3
    original = files.sync_directory

    def sync(path: Path) -> None:
        if path == machine.live and full:
            full.pop()
            raise OSError(28, "No space left on device")
        original(path)

    monkeypatch.setattr(files, "sync_directory", sync)
    machine.write(b"1")
    assert machine.shipped()
    assert not full
    assert machine.ships.figures.failures == 3
    assert not machine.ended
    assert [len(each.rows) for each in objects(machine)] == [0, 1]
    machine.stop()


class LateJournal(MemoryJournal):
    """Rows can be read a moment before they count."""

    counted = 0

    @property
    def sequence(self) -> int:
        return self.counted


def test_rows_that_are_not_counted_yet(tmp_path: Path) -> None:
    """Are left for the next object: what is released must be counted."""
    machine = Machine(tmp_path, "a")
    machine.claim()
    late = LateJournal()
    machine.journal = late
    machine.ship()
    late.write(b"1", b"2")
    late.counted = 1
    assert machine.ships.wait_shipped(1, 10)
    assert [row.data for row in the_log(tmp_path)] == [b"1"]
    late.counted = 2
    late.on_commit()
    assert machine.ships.wait_shipped(2, 10)
    machine.stop()


def test_a_gap_is_never_shipped(tmp_path: Path) -> None:
    """A disk that has not kept its next row ends; a log with a gap could never be replayed."""
    machine = Machine(tmp_path, "a")
    machine.claim()
    machine.engine.write(b"1", b"2")
    machine.engine._log.pop(0)
    machine.ship()
    wait_until(lambda: bool(machine.ended), 10, "the end")
    assert isinstance(machine.ended[0], Corrupt)
    assert the_log(tmp_path) == []


def test_nothing_ends_the_thread_in_silence(tmp_path: Path) -> None:
    """An error of the engine, or of one who was waiting, is reported, and all others who wait are told."""
    machine = started(tmp_path, interval_s=1e9)
    machine.write(b"0")
    assert machine.shipped()
    machine.bucket.down = True
    told: list[SnapshotError | None] = []

    def fail(error: SnapshotError | None) -> None:
        raise RuntimeError("the loop is closed")

    sequence = machine.write(b"1", b"2")
    for settle in (told.append, fail, told.append):
        machine.ships.when_shipped(sequence, settle)
    machine.ships.when_shipped(sequence + 1, told.append)
    machine.bucket.down = False
    wait_until(lambda: bool(machine.ended), 10, "the end")
    assert "unexpected RuntimeError while shipping: the loop is closed" in str(machine.ended[0])
    assert told == [None, None, machine.ended[0]]


def test_fence_objects_are_small(tmp_path: Path) -> None:
    """A prune tells them by their size."""
    machine = started(tmp_path)
    (fence,) = objects(machine)
    assert fence.size <= FENCE_BYTES_MAX
    machine.stop()


def test_a_mark_that_cannot_be_written(tmp_path: Path) -> None:
    """Any other error of the disk ends the process."""
    machine = started(tmp_path)
    machine.live.rename(tmp_path / "elsewhere")
    machine.write(b"1")
    wait_until(lambda: bool(machine.ended), 10, "the end")
    assert not isinstance(machine.ended[0], NoRoom | Died)
