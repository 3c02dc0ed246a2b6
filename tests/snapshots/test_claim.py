"""Claiming: epochs and generations grow, one owner is left, the log of the one before is replayed, a broken log is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from snapshots import failpoints
from snapshots.claim import Author, claim, create_fence, fence_lineage
from snapshots.errors import Corrupt, Fenced, Foreign, SnapshotError
from snapshots.log import START, Header, Row, freeze
from snapshots.manifest import EMPTY_LOG
from snapshots.mark import read_mark, write_mark
from snapshots.paths import HINT, log_key, manifest_key
from snapshots.walk import Diverged
from tests.snapshots.fakes import MemoryJournal, deaths, dying_at
from tests.snapshots.machine import Machine, fresh, in_memory, prune, the_log
from tests.snapshots.turns import Turns

AUTHOR = Author("f" * 32, "host")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root, deaths():
        yield root


def owners(root: Path, *names: str, rows: int = 3) -> list[Machine]:
    """The first of them claimed first, wrote and stopped; each has a disk that is as new as the log."""
    machines = [Machine(root, name) for name in names]
    for machine in machines:
        machine.start()
        machine.write(*(b"%d" % number for number in range(rows)))
        assert machine.shipped()
        assert machine.stop()
    return machines


def test_epochs_and_generations_grow_by_one(tmp_path: Path) -> None:
    """Each claim has a manifest, a fence and a writer of its own."""
    a, b = Machine(tmp_path, "a"), Machine(tmp_path, "b")
    for number in range(1, 7):
        machine = (a, b)[number % 2]
        machine.claim()
        assert machine.newest is not None
        assert machine.mark is not None
        assert (machine.newest.epoch, machine.newest.generation, machine.mark.epoch) == (number, number, number)
        assert (machine.mark.log.number, machine.mark.writer) == (number, machine.newest.writer)
        assert read_mark(machine.live) == machine.mark
    found = list(a.prefix.follow(a.prefix.newest().lineage, EMPTY_LOG))  # type: ignore[union-attr]  # it was claimed
    assert [(each.header.epoch, each.rows) for each in found] == [(number, []) for number in range(1, 7)]
    assert len({each.header.writer for each in found}) == 6


def test_a_claim_keeps_the_base(tmp_path: Path) -> None:
    """It repeats the newest checkpoint: a restore from it is a restore from that."""
    (a,) = owners(tmp_path, "a")
    a.start()
    made = a.checkpoint().manifest
    a.stop()
    b = Machine(tmp_path, "b")
    b.claim()
    assert b.newest is not None
    assert b.newest.kind == "claim"
    for field in ("files", "log", "base_sequence", "base_generation", "base_time_us", "counts", "engine"):
        assert getattr(b.newest, field) == getattr(made, field)
    assert b.engine.rows == a.engine.rows


@pytest.mark.parametrize("place", ["claim.replayed", "claim.create", "claim.manifest", "fence.create", "fence.created", "claim.fence"])
def test_killed_while_claiming(tmp_path: Path, place: str) -> None:
    """The next start claims anew; nothing is lost, and what the old owner left unshipped is shipped."""
    (a,) = owners(tmp_path, "a")
    a.engine.write(b"unshipped")
    for _ in range(2):
        dying_at(place, a.claim)
        a.kill()
    a.start()
    assert a.shipped()
    assert [row.data for row in the_log(tmp_path)] == [b"0", b"1", b"2", b"unshipped"]
    assert a.stop()
    assert [manifest.epoch for manifest in map(a.prefix.manifest, a.prefix.generations())] == list(
        range(1, len(a.prefix.generations()) + 1)
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.sampled_from("ab"), max_size=40), shipped_before=st.booleans())
def test_two_claim_at_the_same_time(tmp_path: Path, order: list[str], *, shipped_before: bool) -> None:
    """In any order of their calls: exactly one can store rows afterwards, and the other ends before it stored one."""
    root = fresh(tmp_path)
    a, b = owners(root, "a", "b", rows=2 if shipped_before else 0)
    a.start()
    assert a.stop()
    before = the_log(root)
    turns = Turns()
    for machine in (a, b):
        machine.engine.write(machine.name.encode())
        turns.begin(machine.name, machine.bucket, machine.claim)
    turns.play(order)
    for machine in (a, b):
        if turns.results[machine.name] is None:
            machine.ship()
    shipped = []
    for machine in (a, b):
        if turns.results[machine.name] is None:
            try:
                machine.shipped()
            except Fenced as error:
                turns.results[machine.name] = error
            else:
                shipped.append(machine)
            machine.ships.stop(10)
    (owner,) = shipped
    (other,) = {a, b} - {owner}
    assert isinstance(turns.results[other.name], Fenced | Diverged)
    assert the_log(root) == owner.engine.rows
    assert owner.engine.rows[:-1] == before
    assert owner.engine.rows[-1].data == owner.name.encode()
    epochs = [owner.prefix.manifest(generation).epoch for generation in owner.prefix.generations()]
    assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.parametrize("log", [True, False])
def test_a_stalled_claim_can_create_nothing_that_counts(tmp_path: Path, *, log: bool) -> None:
    """It sleeps before any of its calls, while the old owner ships on and makes a checkpoint, another claims, ships, makes checkpoints and
    prunes; then it goes on. It ends, and the log is that of the new owner."""
    slept: list[bool] = []
    for at in range(100):
        root = fresh(tmp_path)
        (sleeper,) = owners(root, "sleeper")
        old, new = Machine(root, "old"), Machine(root, "new")
        old.start()
        turns = Turns()
        turns.begin("sleeper", sleeper.bucket, sleeper.claim)
        if not all(turns.step("sleeper") for _ in range(at)):
            old.stop()
            turns.finish()
            break
        take_over(root, old, new, log=log)
        turns.finish()
        before = the_log(root)
        assert before == new.engine.rows
        owner = new
        if turns.results["sleeper"] is None:
            owner = the_owner(sleeper, new)
        else:
            assert isinstance(turns.results["sleeper"], Fenced | Corrupt | Foreign), turns.results
        slept.append(owner is new)
        owner.write(b"and on")
        assert owner.shipped()
        assert owner.checkpoint().manifest == owner.prefix.newest()
        assert the_log(root) == owner.engine.rows
        assert owner.engine.rows[: len(before)] == before
        assert owner.stop()
        Machine(root, "empty").claim()
    assert slept.count(True) > 5


def the_owner(sleeper: Machine, new: Machine) -> Machine:
    """Of two that both claimed: one can store a row, the other is told that it cannot."""
    sleeper.ship()
    could = []
    for machine in (sleeper, new):
        machine.engine.write(machine.name.encode())
        try:
            assert machine.shipped()
            could.append(machine)
        except Fenced:
            machine.ships.stop(5)
    (owner,) = could
    return owner


def take_over(root: Path, old: Machine, new: Machine, *, log: bool) -> None:
    """Row objects and checkpoints of the old owner, then a new one, who prunes them."""
    for number in range(3):
        with suppress(Fenced):  # by the one who sleeps, if it came so far
            old.write(b"old %d" % number)
            assert old.shipped()
            old.checkpoint()
    old.ships.stop(5)
    new.start()
    for number in range(2):
        new.write(b"new %d" % number)
        assert new.shipped()
        new.checkpoint()
    prune(root, log=log)


def test_a_late_object_of_the_old_owner_is_replayed(tmp_path: Path) -> None:
    """One that lands just before the fence, under the name that the fence was to have."""
    (a,) = owners(tmp_path, "a")
    b = Machine(tmp_path, "b")
    a.start()

    def late() -> None:
        if a.engine.sequence < 6:
            a.engine.write(b"late %d" % a.engine.sequence)
            assert a.shipped()

    failpoints.arm("fence.create", late)
    b.claim()
    assert [row.data for row in b.engine.rows] == [b"0", b"1", b"2", b"late 3", b"late 4", b"late 5"]
    b.ship()
    b.write(b"b")
    assert b.shipped()
    assert the_log(tmp_path) == b.engine.rows
    a.engine.write(b"a")
    with pytest.raises(Fenced):
        a.shipped()
    b.stop()


def test_a_hole_in_the_log(tmp_path: Path) -> None:
    """Is Corrupt: no fence may hide the rest. Nobody is disturbed by the claim that was not made."""
    (a,) = owners(tmp_path, "a")
    a.start()
    b = Machine(tmp_path, "b")
    lineage = a.ships.mark.lineage
    for _ in range(3):
        a.write(b"x")
        assert a.shipped()
    hole = a.ships.mark.log.number - 1
    a.bucket.delete(log_key(lineage, hole))
    before = [entry.key for entry in a.bucket.list("v1/")]
    with pytest.raises(Corrupt, match=f"log object {hole} of lineage {lineage} is missing, but {hole + 1} is there"):
        b.claim()
    assert [entry.key for entry in a.bucket.list("v1/")] == before
    a.write(b"the owner goes on")
    assert a.shipped()
    a.checkpoint()
    b.wipe()
    b.claim()  # from a base behind the hole
    assert b.engine.rows == a.engine.rows
    a.ships.stop(5)


def test_the_end_of_the_log_is_lost(tmp_path: Path) -> None:
    """A base that holds more than the log: going on would leave a gap that no restore could cross."""
    (a,) = owners(tmp_path, "a")
    a.start()
    a.write(b"x")
    assert a.shipped()
    made = a.checkpoint().manifest
    a.stop()
    moved = msgspec.structs.replace(made, generation=made.generation + 1, log=msgspec.structs.replace(made.log, number=1, sequence=0))
    first = a.prefix.log_object(made.lineage, 1)
    assert first is not None
    moved = msgspec.structs.replace(moved, log=first.place)
    a.prefix.create_manifest(moved)
    for number in range(2, made.log.number + 1):
        a.bucket.delete(log_key(made.lineage, number))
    before = [entry.key for entry in a.bucket.list("v1/")]
    with pytest.raises(Corrupt, match="the end of the log is lost"):
        Machine(tmp_path, "b").claim()
    assert [entry.key for entry in a.bucket.list("v1/")] == before


def test_another_history_takes_the_prefix_from_nobody(tmp_path: Path) -> None:
    """Unshipped rows here, others under the same numbers there: known before the claim."""
    (a,) = owners(tmp_path, "a")
    b = Machine(tmp_path, "b")
    b.start()
    a.engine.write(b"a's own")
    b.write(b"b's own")
    assert b.shipped()
    mark, newest = read_mark(a.live), a.prefix.newest()
    assert mark is not None
    assert newest is not None
    before = [entry.key for entry in a.bucket.list("v1/")]
    with pytest.raises(Diverged):
        claim(a.prefix, a.live, mark, newest, a.engine, AUTHOR, 1)
    assert [entry.key for entry in a.bucket.list("v1/")] == before
    assert b.stop()


def test_a_prefix_that_is_taken_over_by_another_lineage(tmp_path: Path) -> None:
    """While this disk started: an operator must decide."""
    (a,) = owners(tmp_path, "a")
    newest, mark = a.prefix.newest(), read_mark(a.live)
    assert newest is not None
    assert mark is not None
    theirs = msgspec.structs.replace(newest, lineage="e" * 32, generation=newest.generation + 1, epoch=newest.epoch + 1)

    def overtake() -> None:
        a.prefix.create_manifest(theirs)

    failpoints.arm("claim.create", overtake)
    with pytest.raises(Foreign, match=f"taken over by lineage {'e' * 32}"):
        a.claim()


@pytest.mark.parametrize("outcome", ["before", "after"])
@pytest.mark.parametrize("call", range(2))
def test_an_answer_that_is_lost_while_claiming(tmp_path: Path, outcome: str, call: int) -> None:
    """Of the manifest or of the fence: the start fails, the next one takes over from itself."""
    (a,) = owners(tmp_path, "a")
    a.bucket.plans["create"] = ["ok"] * call + [outcome]
    with pytest.raises(SnapshotError):
        a.claim()
    a.kill()
    a.start()
    a.write(b"x")
    assert a.shipped()
    assert the_log(tmp_path) == a.engine.rows
    assert a.stop()


def test_the_hint_is_only_a_hint(tmp_path: Path) -> None:
    """A claim counts without it; an old or broken one misleads nobody."""
    (a,) = owners(tmp_path, "a")
    a.claim()
    a.kill()
    old = a.bucket.get(HINT)
    a.bucket.plans["replace"] = ["before"]
    a.claim()
    assert a.bucket.get(HINT) == old
    for hint in (old, b"", b"{", b"null"):
        a.bucket.replace(HINT, hint)
        generation = a.newest.generation if a.newest else 0
        a.kill()
        a.claim()
        assert a.newest is not None
        assert a.newest.generation == generation + 1


def test_a_lineage_that_is_left(tmp_path: Path) -> None:
    """Its writer can store nothing more, also when it ships at this moment."""
    (a,) = owners(tmp_path, "a")
    a.start()
    chance = random.Random(3)
    for _ in range(3):
        a.engine.write(*[b"x"] * chance.randrange(1, 5))
    newest = a.prefix.newest()
    assert newest is not None
    fence_lineage(a.prefix, newest, AUTHOR, 1)
    a.engine.write(b"never")
    with pytest.raises(Fenced):
        a.shipped()
    found = list(a.prefix.follow(newest.lineage, newest.log))
    assert (found[-1].header.writer, found[-1].header.epoch, found[-1].rows) == (AUTHOR.writer, newest.epoch + 1, [])
    assert b"never" not in [row.data for each in found for row in each.rows]
    fence_lineage(a.prefix, newest, AUTHOR, 1)


@pytest.mark.parametrize("damage", ["hole", "rot", "rotten end"])
def test_a_broken_lineage_that_is_left(tmp_path: Path, damage: str) -> None:
    """Its writer is fenced behind the break."""
    (a,) = owners(tmp_path, "a")
    a.start()
    for _ in range(3):
        a.write(b"x")
        assert a.shipped()
    lineage, number = a.ships.mark.lineage, a.ships.mark.log.number
    if damage == "hole":
        a.bucket.delete(log_key(lineage, number - 1))
    else:
        broken = log_key(lineage, number if damage == "rotten end" else number - 1)
        a.bucket.replace(broken, a.bucket.get(broken)[:-1] + b"?")
    newest = a.prefix.newest()
    assert newest is not None
    fence_lineage(a.prefix, newest, AUTHOR, 1)
    a.engine.write(b"never")
    with pytest.raises(Fenced):
        a.shipped()
    assert a.bucket.head(log_key(lineage, number + 1)) is not None
    assert a.bucket.head(log_key(lineage, number + 2)) is None


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lineage_that_is_left_without_its_end(tmp_path: Path, lost: int) -> None:
    """Its writer still lives and knows nothing of the loss: it is fenced where it goes on, not where the log ends now."""
    (a,) = owners(tmp_path, "a")
    a.start()
    for _ in range(3):
        a.write(b"x")
        assert a.shipped()
    lineage, number = a.ships.mark.lineage, a.ships.mark.log.number
    newest = a.prefix.newest()
    assert newest is not None
    a.prefix.update_hint(newest, number, 1)
    for each in range(number - lost + 1, number + 1):
        a.bucket.delete(log_key(lineage, each))
    fence_lineage(a.prefix, newest, AUTHOR, 1)
    a.engine.write(b"never")
    with pytest.raises(Fenced):
        a.shipped()
    assert a.bucket.head(log_key(lineage, number + 2)) is None


def test_a_fence_under_a_taken_name(tmp_path: Path) -> None:
    """Is not created, and says so."""
    (a,) = owners(tmp_path, "a")
    mark = read_mark(a.live)
    assert mark is not None
    place = create_fence(a.prefix, mark.lineage, 9, "w", mark.log, 1)
    assert place is not None
    assert create_fence(a.prefix, mark.lineage, 9, "w", mark.log, 1) == place
    assert create_fence(a.prefix, mark.lineage, 9, "v", mark.log, 1) is None


def test_a_row_of_somebody_who_is_no_owner(tmp_path: Path) -> None:
    """An object of a higher epoch behind our claim means that we are not the owner."""
    (a,) = owners(tmp_path, "a")

    def intrude() -> None:
        mark = read_mark(a.live)
        assert mark is not None
        end = mark.log
        header = Header(mark.lineage, 99, "w", end.number + 1, end.digest, end.sequence + 1, end.sequence + 1, 1, 1, end.bytes)
        body, _ = freeze(header, [Row(end.sequence + 1, 1, b"theirs")])
        assert a.prefix.bucket.create(log_key(mark.lineage, end.number + 1), body)

    failpoints.arm("claim.manifest", intrude)
    with pytest.raises(Fenced, match="a writer of epoch 99 took over"):
        a.claim()


def test_a_claim_of_a_copy_without_a_past(tmp_path: Path) -> None:
    """A mark at the beginning of the log replays all of it."""
    (a,) = owners(tmp_path, "a")
    mark, newest = read_mark(a.live), a.prefix.newest()
    assert mark is not None
    assert newest is not None
    b = Machine(tmp_path, "b")
    b.live.mkdir()
    b.journal = MemoryJournal()
    write_mark(b.live, msgspec.structs.replace(mark, log=EMPTY_LOG))
    assert EMPTY_LOG.digest == START
    b.claim()
    assert b.engine.rows == a.engine.rows
    assert a.bucket.head(manifest_key(newest.generation + 1)) is not None
