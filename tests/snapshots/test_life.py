"""Whole lives: two disks, one prefix, anything in any order. What was confirmed is in the log once and in order; the rest is kept."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from snapshots import failpoints, ship
from snapshots.errors import Fenced, SnapshotError, Unreachable
from snapshots.log import Row
from snapshots.unshipped import read_unshipped
from snapshots.walk import Diverged
from tests.snapshots.fakes import Died, deaths, die
from tests.snapshots.machine import PATIENCE_S, Machine, fresh, in_memory, prune, the_log
from tests.snapshots.turns import Turns

PLACES = ["ship.frozen", "ship.created", "ship.marked"]
CHECKPOINT_PLACES = ["publish.copied", "publish.hashed", "publish.blob", "publish.uploaded", "publish.manifest", "publish.hint"]
CLAIM_PLACES = ["claim.replayed", "claim.create", "claim.manifest", "fence.create", "fence.created", "claim.fence"]


@pytest.fixture
def tmp_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(ship, "RETRY_S", 0.001)
    monkeypatch.setattr(ship, "RETRY_MAX_S", 0.002)
    with in_memory() as root, deaths():
        yield root


def names(root: Path) -> list[str]:
    """Of all log objects and manifests."""
    return [str(path) for folder in ("log", "manifests") for path in sorted((root / "bucket" / "v1" / folder).rglob("*"))]


def working(machine: Machine, confirmed: list[Row]) -> None:
    """A day of an owner."""
    for number in range(3):
        sequence = machine.write(b"a %d" % number, b"more")
        assert machine.ships.wait_shipped(sequence, PATIENCE_S)
        confirmed[:] = machine.engine.rows[:sequence]
        if number < 2:
            machine.checkpoint()


def take_over(root: Path) -> Machine:
    """Another machine claims, ships, makes checkpoints; what it does not need is pruned."""
    other = Machine(root, "b")
    other.start()
    for number in range(3):
        other.write(b"b %d" % number)
        assert other.shipped()
        other.checkpoint()
    prune(root)
    return other


def require_fenced(root: Path, machine: Machine, other: Machine, confirmed: list[Row], go_on: Callable[[], Exception | None]) -> None:
    """The sleeper can create neither a log object nor a manifest, and what it confirmed is there."""
    before, rows = names(root), the_log(root)
    assert rows[: len(confirmed)] == confirmed
    error = go_on()
    assert isinstance(error, Fenced), error
    machine.engine.write(b"never")
    with pytest.raises(Fenced):
        machine.shipped()
    assert names(root) == before
    assert the_log(root) == rows == other.engine.rows
    machine.ships.stop(PATIENCE_S)
    other.write(b"and on")
    assert other.stop()


def test_an_owner_that_sleeps_before_any_call(tmp_path: Path) -> None:
    """Of the bucket, for so long that everything it knew was pruned."""
    for at in range(100):
        root = fresh(tmp_path)
        machine, confirmed, turns = Machine(root, "a"), list[Row](), Turns()
        machine.start()
        turns.begin("a", machine.bucket, partial(working, machine, confirmed))
        if not all(turns.step("a") for _ in range(at)):
            turns.finish()
            machine.ships.stop(PATIENCE_S)
            break
        turns.settle("a")
        if "a" in turns.results:
            turns.finish()
            machine.ships.stop(PATIENCE_S)
            break

        def go_on(turns: Turns = turns) -> Exception | None:
            turns.finish()
            return turns.results["a"]

        require_fenced(root, machine, take_over(root), confirmed, go_on)
    assert at == 3 + 2 * 5  # log objects; for each checkpoint look, store, look, manifest, hint


@pytest.mark.parametrize("place", PLACES + CHECKPOINT_PLACES)
@pytest.mark.parametrize("time", [1, 2])
def test_an_owner_that_sleeps_between_its_steps(tmp_path: Path, place: str, time: int) -> None:
    """At every failpoint, the first or the second time that it comes there."""
    machine, confirmed, turns = Machine(tmp_path, "a"), list[Row](), Turns()
    asleep, awake = threading.Event(), threading.Event()
    left = [time]

    def sleep() -> None:
        left[0] -= 1
        if not left[0]:
            failpoints.disarm()
            asleep.set()
            assert awake.wait(PATIENCE_S)

    machine.start()
    failpoints.arm(place, sleep)
    turns.begin("a", machine.bucket, partial(working, machine, confirmed))
    turns.release()
    assert asleep.wait(PATIENCE_S)
    other = take_over(tmp_path)

    def go_on() -> Exception | None:
        awake.set()
        turns.finish()
        return turns.results["a"]

    require_fenced(tmp_path, machine, other, confirmed, go_on)


def test_an_answer_that_is_never_heard_by_one_who_sleeps(tmp_path: Path) -> None:
    """The object landed, was replayed and pruned; tried again under its old name it is the same object, and the next name is taken."""
    machine = Machine(tmp_path, "a")
    machine.start()
    machine.write(b"1")
    assert machine.shipped()
    asleep, awake = threading.Event(), threading.Event()

    def gate(name: str, key: str) -> None:
        if name == "create" and machine.bucket.keys("create").count(key) == 2:
            asleep.set()
            assert awake.wait(PATIENCE_S)

    machine.bucket.gate = gate
    machine.bucket.plans["create"] = ["after"]
    machine.write(b"2")
    assert asleep.wait(PATIENCE_S)
    machine.write(b"never")
    other = take_over(tmp_path)
    rows = the_log(tmp_path)
    awake.set()
    with pytest.raises(Fenced):
        machine.shipped()
    assert the_log(tmp_path) == rows == other.engine.rows
    assert machine.engine.rows[:2] == rows[:2]
    machine.ships.stop(PATIENCE_S)
    machine.kill()
    other.checkpoint()
    other.stop()
    machine.start()
    assert machine.engine.rows == other.engine.rows
    machine.stop()


class World:
    """Two machines and what must hold."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.chance = random.Random(seed)
        self.machines = [Machine(root, "a"), Machine(root, "b")]
        self.confirmed: dict[int, Row] = {}
        self.written: set[bytes] = set()
        self.wiped: set[bytes] = set()
        self.paused: dict[str, threading.Event] = {}
        self.count = 0
        self.history: list[str] = []

    def turn(self) -> None:
        machine = self.chance.choice(self.machines)
        if machine.shipper is None:
            choices = [self.start] * 6 + [self.start_badly, self.wipe, self.copy]
        elif machine.name in self.paused:
            choices = [self.resume] * 3 + [self.write, self.crash]
        else:
            choices = (
                [self.write] * 6
                + [self.wait] * 3
                + [self.checkpoint] * 2
                + [self.pause, self.crash, self.die, self.stop, self.disturb, self.prune]
            )
        action = self.chance.choice(choices)
        self.history.append(f"{machine.name} {action.__name__}")
        action(machine)

    def start(self, machine: Machine) -> None:
        """A start with a bucket that answers never refuses; at most another owner stores something just before the claim, for some time."""
        machine.bucket.plans.clear()
        if machine.journal is not None and not machine.engine.sequence:
            machine.wipe()  # as an operator would, where somebody else began the prefix meanwhile
        for _ in range(20):
            try:
                machine.start()
            except Diverged:
                machine.kill()
            else:
                return
        raise AssertionError("no start succeeds")

    def start_badly(self, machine: Machine) -> None:
        if self.chance.random() < 0.5:
            for name in ("get", "list", "head", "create", "replace"):
                machine.bucket.plans[name] = ["ok"] * self.chance.randrange(4) + [self.chance.choice(["before", "after"])]
        else:
            failpoints.arm(self.chance.choice(CLAIM_PLACES), die)
        with suppress(Unreachable, Died):
            machine.claim()
        failpoints.disarm()
        machine.crash()

    def write(self, machine: Machine) -> None:
        bodies = [self.body(machine) for _ in range(self.chance.randrange(1, 5))]
        try:
            sequence = machine.write(*bodies)
        except SnapshotError as error:
            self.end(machine, error)
            return
        self.written.update(bodies)
        rows = machine.engine.rows[:sequence]
        machine.ships.when_shipped(sequence, partial(self.hear, rows))

    def body(self, machine: Machine) -> bytes:
        self.count += 1
        return f"{machine.name} {self.count} ".encode() + self.chance.randbytes(self.chance.choice([0, 10, 3000]))

    def hear(self, rows: list[Row], error: SnapshotError | None) -> None:
        if error is None:
            for row in rows:
                assert self.confirmed.setdefault(row.sequence, row) == row

    def wait(self, machine: Machine) -> None:
        try:
            assert machine.shipped()
        except SnapshotError as error:
            self.end(machine, error)

    def checkpoint(self, machine: Machine) -> None:
        place = self.chance.choice([None, None, *CHECKPOINT_PLACES])
        if place is not None:
            failpoints.arm(place, die)
        try:
            machine.checkpoint()
        except SnapshotError as error:
            if not isinstance(error, Unreachable):
                self.end(machine, error)
        except Died:
            self.crash(machine)
        finally:
            failpoints.disarm()

    def pause(self, machine: Machine) -> None:
        awake = self.paused[machine.name] = threading.Event()

        def gate(name: str, key: str) -> None:
            assert awake.wait(PATIENCE_S)

        machine.bucket.gate = gate

    def resume(self, machine: Machine) -> None:
        self.paused.pop(machine.name).set()
        machine.bucket.gate = lambda name, key: None

    def crash(self, machine: Machine) -> None:
        awake = self.paused.pop(machine.name, None)
        if awake is not None:
            machine.bucket.down = True  # what waits for its turn never comes to the bucket
            awake.set()
        machine.crash()

    def die(self, machine: Machine) -> None:
        """At a failpoint of the shipper; or it is fenced before."""
        thread, over = machine.ships._thread, threading.Event()

        def kill() -> None:
            if threading.current_thread() is thread:
                over.set()
                die()

        failpoints.arm(self.chance.choice(PLACES), kill)
        body = self.body(machine)
        with suppress(Fenced):
            sequence = machine.write(body)
            self.written.add(body)
            machine.ships.when_shipped(sequence, lambda _: over.set())
            assert over.wait(PATIENCE_S)
        failpoints.disarm()
        self.crash(machine)

    def stop(self, machine: Machine) -> None:
        if machine.stop():
            for row in machine.engine.rows:
                assert self.confirmed.setdefault(row.sequence, row) == row

    def disturb(self, machine: Machine) -> None:
        for name in ("create", "head", "put_file", "get"):
            machine.bucket.plans[name] = [self.chance.choice(["ok", "before", "after"]) for _ in range(3)]

    def prune(self, machine: Machine) -> None:
        prune(self.root, log=self.chance.random() < 0.7)

    def wipe(self, machine: Machine) -> None:
        if machine.journal is not None:
            self.wiped.update(row.data for row in machine.engine.rows)
        machine.wipe()

    def copy(self, machine: Machine) -> None:
        other = next(each for each in self.machines if each is not machine)
        if other.shipper is None and other.live.exists() and other.journal is not None:
            self.wipe(machine)
            other.copy_to(machine)

    def end(self, machine: Machine, error: SnapshotError) -> None:
        """Only another owner ends one."""
        assert isinstance(error, Fenced), error
        self.crash(machine)

    def check(self) -> None:
        confirmed = dict(self.confirmed)  # before the log is read: it goes on meanwhile
        rows = the_log(self.root)
        assert [row.sequence for row in rows] == list(range(1, len(rows) + 1))
        assert len({row.data for row in rows}) == len(rows)
        for sequence, row in confirmed.items():
            assert rows[sequence - 1] == row

    def finish(self) -> None:
        """Both come to rest; then nothing may be missing anywhere."""
        for machine in self.machines:
            if machine.shipper is not None:
                self.crash(machine)
        for machine in self.machines:
            self.start(machine)
            assert machine.shipped()
            assert machine.stop()
        self.check()
        rows = the_log(self.root)
        kept = {row.data for row in rows} | {
            row.data for machine in self.machines for path in machine.directory.glob("*.log") for row in read_unshipped(path).rows
        }
        assert self.written - self.wiped <= kept
        empty = Machine(self.root, "empty")
        empty.start()
        assert empty.engine.rows == rows
        assert empty.stop()


@pytest.mark.parametrize("seed", range(40))
def test_a_life(tmp_path: Path, seed: int) -> None:
    """Sixty turns of one of the machines each."""
    world = World(tmp_path, seed)
    try:
        for _ in range(60):
            world.turn()
            if world.chance.random() < 0.1:
                world.check()
        world.finish()
    except BaseException as error:
        error.add_note("\n".join(world.history))
        raise
    finally:
        for awake in world.paused.values():
            awake.set()
        failpoints.disarm()
