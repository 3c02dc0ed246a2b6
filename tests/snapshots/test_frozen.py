"""An owner that stood still while its bucket was in trouble: it acknowledges nothing before the bucket says that it is still the owner."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshots import ship
from snapshots.clock import JUMPED, STILL_S, STOOD_STILL
from snapshots.errors import Fenced, SnapshotError, Unreachable
from tests.snapshots.fakes import FakeClock
from tests.snapshots.machine import Machine, in_memory, the_log
from tests.system.server import wait_until

STILL = STILL_S + 0.1
"""Shorter than any answer of the bucket counts."""


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root:
        yield root


def troubled(root: Path, clock: FakeClock) -> Machine:
    """Its bucket does not answer, and it pauses before it tries again. One row is in the bucket, one is not."""
    machine = Machine(root, "a")
    machine.start(clock)
    machine.write(b"shipped")
    assert machine.shipped()
    machine.bucket.down = True
    machine.write(b"waits")
    wait_until(lambda: machine.ships.trouble is not None, 10, "trouble")
    clock.await_standing()
    return machine


def write_again(machine: Machine, body: bytes) -> None:
    """As soon as the bucket has said who owns it."""
    assert machine.shipped()
    wait_until(machine.ships._is_certain, 10, "the answer")
    machine.write(body)


def test_it_finds_out_before_it_acknowledges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody took over meanwhile, and the bucket is well again: the pause before the next attempt is cut short."""
    monkeypatch.setattr(ship, "RETRY_S", 1e6)
    clock = FakeClock()
    machine = troubled(tmp_path, clock)
    Machine(tmp_path, "b").claim()
    machine.bucket.down = False
    clock.freeze(STILL)
    with pytest.raises(Fenced, match="writer b-"):
        machine.write(b"never")
    assert [row.data for row in machine.engine.rows] == [b"shipped", b"waits"]


def test_it_acknowledges_nothing_while_the_bucket_is_silent(tmp_path: Path) -> None:
    """Each write is refused with the reason; when the bucket answers the truth comes out."""
    clock = FakeClock()
    machine = troubled(tmp_path, clock)
    Machine(tmp_path, "b").claim()
    clock.freeze(STILL)
    for _ in range(20):
        with pytest.raises(
            Unreachable, match="this process stood still, and the bucket has not said since then who owns the data: no answer"
        ):
            machine.write(b"never")
    assert machine.engine.sequence == 2
    machine.bucket.down = False
    clock.advance(ship.RETRY_MAX_S)
    wait_until(lambda: bool(machine.ended), 10, "the end")
    with pytest.raises(Fenced):
        machine.write(b"never")
    assert [row.data for row in the_log(tmp_path)] == [b"shipped"]


def test_it_tells_what_it_saw(tmp_path: Path) -> None:
    """A clock that was set is no process that stood still, although it has to ask just as well."""
    clock = FakeClock()
    machine = troubled(tmp_path, clock)
    for how in (JUMPED, STOOD_STILL):
        clock.freeze(STILL, how)
        assert (how, {"seconds": STILL}) in machine.told
        with pytest.raises(Unreachable, match=f"^{how}, and the bucket has not said since then who owns the data: no answer"):
            machine.write(b"never")
    machine.bucket.down = False
    clock.let_pass(ship.RETRY_MAX_S)
    assert machine.stop()


def test_it_goes_on_when_nobody_took_over(tmp_path: Path) -> None:
    """Nothing is lost, and writes are acknowledged as before; also without the bucket, which may get into trouble again."""
    clock = FakeClock()
    machine = troubled(tmp_path, clock)
    clock.freeze(STILL)
    with pytest.raises(Unreachable):
        machine.write(b"refused")
    machine.bucket.down = False
    clock.let_pass(ship.RETRY_MAX_S)
    write_again(machine, b"1")
    assert machine.shipped()
    machine.bucket.down = True
    machine.write(b"2")
    wait_until(lambda: machine.ships.trouble is not None, 10, "trouble")
    machine.write(b"3")
    machine.bucket.down = False
    assert machine.stop()
    assert [row.data for row in the_log(tmp_path)] == [b"shipped", b"waits", b"1", b"2", b"3"]


def test_a_question_from_before(tmp_path: Path) -> None:
    """Fails after it woke: that says nothing, it asks again at once, and a commit waits for that answer alone."""
    clock, asked, go = FakeClock(), threading.Event(), threading.Event()
    machine = troubled(tmp_path, clock)

    def hold(name: str, _: str) -> None:
        if not go.is_set():
            asked.set()
            assert go.wait(10)
            machine.bucket.plans["create"] = ["before"]

    machine.bucket.gate = hold
    machine.bucket.down = False
    clock.advance(1.0)
    assert asked.wait(10)
    clock.freeze(STILL)
    errors: list[SnapshotError] = []

    def write() -> None:
        try:
            machine.write(b"new")
        except SnapshotError as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    wait_until(lambda: machine.ships._asking, 10, "the commit to wait")
    go.set()
    writer.join(10)
    assert errors == []
    assert machine.shipped()
    assert clock.now_s() < 1.0 + STILL + 0.5
    machine.stop()


def test_a_bucket_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit waits so long and no longer; the next one does not wait."""
    clock, asked, answer = FakeClock(), threading.Event(), threading.Event()
    machine = troubled(tmp_path, clock)

    def hang(*_: str) -> None:
        asked.set()
        assert answer.wait(60)

    machine.bucket.gate = hang
    machine.bucket.down = False
    clock.freeze(STILL)
    assert asked.wait(10)
    for patience_s in (0.1, 120.0):  # the second one would outlast the store
        monkeypatch.setattr(ship, "CONFIRM_S", patience_s)
        with pytest.raises(Unreachable, match="it does not answer"):
            machine.write(b"never")
    answer.set()
    write_again(machine, b"1")
    assert machine.stop()


def test_without_trouble(tmp_path: Path) -> None:
    """A pause that is shorter than an answer counts is asked about too: before the commit, and once."""
    clock = FakeClock()
    machine = Machine(tmp_path, "a")
    machine.start(clock)
    clock.await_standing()
    machine.bucket.calls.clear()
    clock.freeze(STILL)
    machine.write(b"1")
    assert machine.bucket.calls[0][0] == "head"
    assert machine.shipped()
    machine.write(b"2")
    assert machine.shipped()
    assert machine.bucket.count()["head"] == 1
    other = Machine(tmp_path, "b")
    other.claim()
    clock.await_standing()
    clock.freeze(STILL)
    with pytest.raises(Fenced):
        machine.write(b"never")


def test_it_asks_by_itself(tmp_path: Path) -> None:
    """Also when nobody writes: somebody took over, and it ends at once."""
    clock = FakeClock()
    machine = Machine(tmp_path, "a")
    machine.start(clock)
    clock.await_standing()
    Machine(tmp_path, "b").claim()
    clock.freeze(STILL)
    wait_until(lambda: bool(machine.ended), 10, "the end")
    assert isinstance(machine.ended[0], Fenced)
    assert STILL < ship.ASK_S


def test_pauses_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes wait for the answer, which is not put off because the bucket was in trouble for long before."""
    monkeypatch.setattr(ship, "RETRY_S", 1.0)
    monkeypatch.setattr(ship, "RETRY_MAX_S", 1e6)
    clock = FakeClock()
    machine = troubled(tmp_path, clock)
    clock.let_pass(1000.0)
    failures = machine.ships.figures.failures
    assert failures > 7
    clock.freeze(STILL)
    wait_until(lambda: machine.ships.figures.failures > failures, 10, "another attempt")
    clock.await_standing()
    machine.bucket.down = False
    clock.advance(1.5)
    write_again(machine, b"1")
    assert machine.stop()


def test_remote_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are told what the bucket says, at once and not after the pause."""
    monkeypatch.setattr(ship, "RETRY_S", 1e6)
    clock = FakeClock()
    machine = troubled(tmp_path, clock)
    told: list[SnapshotError | None] = []
    machine.ships.when_shipped(2, told.append)
    Machine(tmp_path, "b").claim()
    machine.bucket.down = False
    clock.freeze(STILL)
    wait_until(lambda: bool(told), 10, "the end")
    assert isinstance(told[0], Fenced)
