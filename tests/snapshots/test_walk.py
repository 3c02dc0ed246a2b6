"""Comparing a disk with the log: every kind of standing, and a start from each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from snapshots.errors import Corrupt
from snapshots.log import Row
from snapshots.manifest import EMPTY_LOG
from snapshots.mark import read_mark
from snapshots.paths import log_key
from snapshots.start import Action
from snapshots.walk import Diverged, Standing, catch_up, compare, matching
from tests.snapshots.fakes import MemoryJournal, deaths, dying_at
from tests.snapshots.machine import Machine, in_memory, prune, the_log


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root, deaths():
        yield root


def standing(machine: Machine) -> Standing:
    mark, newest = read_mark(machine.live), machine.prefix.newest()
    assert mark is not None
    assert newest is not None
    return compare(machine.prefix, newest, mark, machine.engine)


def stopped(root: Path, name: str, *rows: bytes, objects: int = 1) -> Machine:
    """A machine that claimed, wrote, shipped and stopped."""
    machine = Machine(root, name)
    machine.start()
    for _ in range(objects):
        machine.write(*rows)
        assert machine.shipped()
    assert machine.stop()
    return machine


def test_as_new_as_the_bucket(tmp_path: Path) -> None:
    """Also with rows that were never shipped."""
    a = stopped(tmp_path, "a", b"1", b"2")
    assert standing(a) == Standing("fits")
    a.engine.write(b"3")
    assert standing(a) == Standing("fits")


def test_behind_the_bucket(tmp_path: Path) -> None:
    """Another owner went on; a fence alone is nothing to catch up with."""
    a = stopped(tmp_path, "a", b"1", b"2")
    b = stopped(tmp_path, "b")
    assert standing(a) == Standing("fits")
    b.start()
    b.write(b"3")
    assert b.shipped()
    b.stop()
    assert standing(a) == Standing("behind")
    a.start()
    assert a.engine.rows == b.engine.rows
    a.stop()


@pytest.mark.parametrize("place", ["ship.created", "ship.marked"])
def test_own_rows_that_landed_unknown_to_the_mark(tmp_path: Path, place: str) -> None:
    """Count as shipped: they are there once."""
    a = stopped(tmp_path, "a", b"1")
    a.start()
    a.die_at(place, b"2", b"3")
    mark = read_mark(a.live)
    assert mark is not None
    assert mark.log.sequence == {"ship.created": 1, "ship.marked": 3}[place]
    assert standing(a) == Standing("fits")
    a.start()
    assert a.shipped()
    assert not a.engine.log_after(0, 1)
    assert the_log(tmp_path) == a.engine.rows
    a.stop()


def test_a_copied_disk(tmp_path: Path) -> None:
    """Both have the same unshipped rows: they are shipped once, whoever starts. Then the other is behind, or diverged if it went on."""
    a, b = Machine(tmp_path, "a"), Machine(tmp_path, "b")
    a.start()
    a.write(b"1")
    assert a.shipped()
    a.stop()
    a.engine.write(b"2", b"3")
    a.copy_to(b)
    b.start()
    assert b.shipped()
    b.stop()
    assert standing(a) == Standing("fits")
    a.engine.write(b"4")
    assert standing(a) == Standing("fits")
    a.start()
    assert a.shipped()
    a.stop()
    assert the_log(tmp_path) == a.engine.rows
    b.engine.write(b"b")
    found = standing(b)
    assert found.kind == "diverged"
    assert "row 4 of this disk is not the one in the bucket: another writer (a-" in found.detail


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (b"x", b"y"),
        (b"x" * 100_000, b"y"),
        (b"x", b"y" * 100_000),
        (b"x" * 10_000_000, b"y"),
    ],
    ids=["alike", "larger here", "larger there", "much larger here"],
)
@pytest.mark.parametrize("same_before", [0, 1, 5])
def test_mismatching_rows(tmp_path: Path, ours: bytes, theirs: bytes, same_before: int) -> None:
    """Of any size, and behind rows that are equal: diverged, and never replayed or released."""
    a, b = Machine(tmp_path, "a"), Machine(tmp_path, "b")
    a.start()
    a.stop()
    a.engine.write(*[b"same"] * same_before)
    a.copy_to(b)
    a.engine.write(ours, b"more")
    b.engine.write(theirs, b"more", b"and more")
    b.start()
    assert b.shipped()
    b.stop()
    assert standing(a).kind == "diverged"
    mark = read_mark(a.live)
    assert mark is not None
    with pytest.raises(Diverged) as caught:
        catch_up(a.prefix, mark, a.engine)
    assert caught.value.sequence == same_before + 1
    assert [row.data for row in a.engine.rows[-2:]] == [ours, b"more"]
    a.start()
    assert a.engine.rows == b.engine.rows
    (kept,) = a.directory.glob("*.fenced-*.log")
    assert kept.name.startswith(f"1-{same_before + 2}.fenced-")
    a.stop()


def test_a_row_of_another_time(tmp_path: Path) -> None:
    """The same bytes committed at another moment are another request."""
    a = stopped(tmp_path, "a", b"1")
    mark = read_mark(a.live)
    assert mark is not None
    back = msgspec.structs.replace(mark, log=EMPTY_LOG)
    rows = [Row(1, 5, b"1")]
    with pytest.raises(Diverged):
        list(matching(a.prefix, back, MemoryJournal(rows, rows)))


def test_a_pruned_log(tmp_path: Path) -> None:
    """A disk that needs what was pruned is restored; one with rows of its own keeps them in a file."""
    a = stopped(tmp_path, "a", b"1")
    b = stopped(tmp_path, "b", b"2", objects=3)
    b.start()
    b.checkpoint()
    b.stop()
    prune(tmp_path)
    assert standing(a).kind == "pruned"
    mark = read_mark(a.live)
    assert mark is not None
    a.bucket.delete(log_key(mark.lineage, mark.log.number))
    assert standing(a).kind == "pruned"
    c = Machine(tmp_path, "c")
    a.copy_to(c)
    c.engine.write(b"own")
    assert standing(c).kind == "diverged"
    for machine in (a, c):
        machine.start()
        assert machine.engine.rows == b.engine.rows
        machine.stop()
    assert [path.name.split(".")[0] for path in c.directory.glob("*.log")] == ["2-2"]
    assert not list(a.directory.glob("*.log"))


def test_a_rewritten_log(tmp_path: Path) -> None:
    """The object that this disk shipped has another digest, or is gone although nothing was pruned."""
    a = stopped(tmp_path, "a", b"1", b"2")
    mark = read_mark(a.live)
    assert mark is not None
    other = msgspec.structs.replace(mark.log, digest="d" * 64)
    newest = a.prefix.newest()
    assert newest is not None
    found = compare(a.prefix, newest, msgspec.structs.replace(mark, log=other), a.engine)
    assert found.kind == "rewritten"
    assert found.detail.startswith(f"log object {mark.log.number} ends with {mark.log.digest[:16]}")
    a.bucket.delete(log_key(mark.lineage, mark.log.number))
    assert standing(a).kind == "rewritten"


@pytest.mark.parametrize("own", [False, True], ids=["nothing-unshipped", "unshipped"])
def test_the_object_that_the_newest_base_stands_on_is_gone(tmp_path: Path, *, own: bool) -> None:
    """Nothing of it is needed any more: the disk stays as it is, with its writes, and an empty one gets the same."""
    a = stopped(tmp_path, "a", b"1")
    a.start()
    a.write(b"2")
    assert a.shipped()
    made = a.checkpoint().manifest
    if own:
        a.ships.stop(5)
        a.engine.write(b"own")
    a.kill()
    assert a.bucket.delete(log_key(made.lineage, made.log.number))
    assert standing(a) == Standing("fits")
    a.start()
    assert a.decision is not None
    assert a.decision.action == Action.USE
    assert a.shipped()
    assert a.stop()
    b = Machine(tmp_path, "b")
    b.claim()
    assert b.engine.rows == a.engine.rows
    assert len(b.engine.rows) == (3 if own else 2)


@pytest.mark.parametrize("lost", [1, 2])
@pytest.mark.parametrize("shipped_on", [False, True], ids=["end", "hole"])
def test_the_bucket_has_lost_what_this_disk_shipped(tmp_path: Path, lost: int, *, shipped_on: bool) -> None:
    """The bucket's side is the shorter copy: only what is here can be adopted."""
    a = stopped(tmp_path, "a", b"1", objects=3)
    newest, mark = a.prefix.newest(), read_mark(a.live)
    assert newest is not None
    assert mark is not None
    a.prefix.update_hint(newest, mark.log.number, 1)
    if shipped_on:
        stopped(tmp_path, "b", b"2")
        a.prefix.update_hint(newest, 1, 1)
    for number in range(mark.log.number, mark.log.number - lost, -1):
        a.bucket.delete(log_key(mark.lineage, number))
    assert standing(a) == Standing("broken", f"log object {mark.log.number}, which this disk shipped, is not there")
    with pytest.raises(Corrupt, match="start once with `tidepool serve --adopt-local`"):
        a.claim()


DAMAGES = ["bytes", "short", "empty", "foreign", "missing"]


def damage_log(machine: Machine, number: int, damage: str) -> str:
    """The key of what is damaged now."""
    mark = read_mark(machine.live)
    assert mark is not None
    key = log_key(mark.lineage, number)
    body = machine.bucket.get(key)
    if damage == "missing":
        assert machine.bucket.delete(key)
        return key
    other = machine.bucket.get(log_key(mark.lineage, 1))
    machine.bucket.replace(key, {"bytes": body[:-40] + b"?" + body[-39:], "short": body[:-1], "empty": b"", "foreign": other}[damage])
    return key


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_log(tmp_path: Path, damage: str) -> None:
    """Is Corrupt, with the way out, whatever this disk has; nothing of it is replayed, and nothing is claimed."""
    a = stopped(tmp_path, "a", b"1")
    b = stopped(tmp_path, "b", b"2", objects=2)
    mark = read_mark(a.live)
    assert mark is not None
    damage_log(a, mark.log.number + 2, damage)
    assert standing(a).kind == "broken"
    before = sorted(entry.key for entry in a.bucket.list("v1/"))
    with pytest.raises(Corrupt, match="--adopt-local"):
        a.claim()
    assert len(a.engine.rows) == 1
    assert b.engine.sequence == 3
    assert sorted(entry.key for entry in a.bucket.list("v1/")) == before


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("own", [False, True], ids=["nothing-unshipped", "unshipped"])
def test_a_log_that_is_damaged_before_the_newest_base(tmp_path: Path, damage: str, *, own: bool) -> None:
    """No restore reads it: the disk that would need it takes the base instead, as when the log was pruned."""
    a = stopped(tmp_path, "a", b"1")
    b = stopped(tmp_path, "b", b"2", objects=3)
    b.start()
    b.checkpoint()
    b.stop()
    mark = read_mark(a.live)
    assert mark is not None
    if own:
        a.engine.write(b"own")
    damage_log(a, mark.log.number + 1, damage)
    assert standing(a).kind == ("diverged" if own else "pruned")
    a.start()
    assert a.engine.rows == b.engine.rows
    a.stop()
    assert [path.name.split(".")[0] for path in a.directory.glob("*.log")] == (["2-2"] if own else [])


def test_a_log_that_grows_while_it_is_read(tmp_path: Path) -> None:
    """The old owner's last two objects come when the end was read already: that is no hole."""
    a = stopped(tmp_path, "a", b"1")
    copy = Machine(tmp_path, "copy")
    a.copy_to(copy)
    b = stopped(tmp_path, "b", b"2", objects=2)
    mark = read_mark(a.live)
    assert mark is not None
    late = [entry.key for entry in b.bucket.list(f"v1/log/{mark.lineage}/", after=log_key(mark.lineage, mark.log.number))]
    assert len(late) > 1
    bodies = {key: b.bucket.get(key) for key in late}
    for key in late:
        b.bucket.delete(key)

    def appear(name: str, key: str) -> None:
        if name == "list" and bodies:
            for each, body in bodies.items():
                copy.bucket.inner.create(each, body)
            bodies.clear()

    copy.bucket.gate = appear
    assert standing(copy).kind == "behind"


@pytest.mark.parametrize("lost", [1, 2])
def test_a_log_whose_end_is_lost(tmp_path: Path, lost: int) -> None:
    """Nothing stands behind it, but the owner's hint tells that it went on: neither an old disk nor an empty one is served as if that were
    the end, nor is anything claimed. What is there can be adopted."""
    a = stopped(tmp_path, "a", b"1")
    b = stopped(tmp_path, "b", b"2", objects=3)
    newest, mark = b.prefix.newest(), read_mark(b.live)
    assert newest is not None
    assert mark is not None
    b.prefix.update_hint(newest, mark.log.number, 1)
    for number in range(mark.log.number, mark.log.number - lost, -1):
        b.bucket.delete(log_key(mark.lineage, number))
    before = b.prefix.generations()
    for machine in (a, Machine(tmp_path, "empty")):
        for _ in range(2):
            with pytest.raises(Corrupt, match=f"log object {mark.log.number - lost + 1} .* went on to {mark.log.number}"):
                machine.claim()
    assert standing(a).kind == "broken"
    assert b.prefix.generations() == before


def test_a_long_log(tmp_path: Path) -> None:
    """Objects are fetched ahead and come in order; a restore from nothing gets all of them."""
    a = Machine(tmp_path, "a")
    a.start()
    for number in range(100):
        a.write(b"%d" % number)
        assert a.shipped()
    a.stop()
    b = Machine(tmp_path, "b")
    b.claim()
    assert b.engine.rows == a.engine.rows
    assert b.mark is not None
    assert b.mark.log.number == 102


def test_a_start_that_died_while_replaying(tmp_path: Path) -> None:
    """What was replayed has no rows in the log of this disk; the mark is old. The next start goes on from there."""
    a = stopped(tmp_path, "a", b"1")
    b = stopped(tmp_path, "b", b"2", objects=3)
    dying_at("claim.replayed", a.claim)
    a.kill()
    assert a.engine.rows == b.engine.rows
    assert not a.engine.log_after(0, 1)
    assert standing(a) == Standing("fits")
    a.start()
    a.write(b"3")
    assert a.shipped()
    assert the_log(tmp_path) == a.engine.rows
    a.stop()
