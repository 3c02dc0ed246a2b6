"""What is remembered of damage: names, until they are forgotten; several may write at a time."""

from __future__ import annotations

import threading
from pathlib import Path

from snapshots.damaged import FOLDER, Break, Noted, forget, make_folder, note, noted
from snapshots.files import sha256
from tests.snapshots.prefixes import NOON_US, Maker

LINEAGE = "0123456789abcdef" * 2


def test_noted_until_forgotten(tmp_path: Path) -> None:
    """Twice is once. What is forgotten leaves the rest."""
    make_folder(tmp_path)
    make_folder(tmp_path)
    one = Noted(frozenset({"a" * 64}), frozenset({Break(LINEAGE, 7)}))
    two = Noted(frozenset({"b" * 64}))
    for found in (one, two, one):
        assert note(tmp_path, found)
    assert noted(tmp_path) == Noted(one.blobs | two.blobs, one.breaks)
    forget(tmp_path, one)
    forget(tmp_path, one)
    assert noted(tmp_path) == two


def test_nobody_would_read_it(tmp_path: Path) -> None:
    """Without the folder that a service makes nothing is written; names that are none of ours are left alone."""
    assert not note(tmp_path, Noted(frozenset({"a" * 64})))
    assert not list(tmp_path.iterdir())
    assert noted(tmp_path) == Noted()
    make_folder(tmp_path)
    for name in ("a" * 63, f"{LINEAGE}-7", "notes.txt"):
        (tmp_path / FOLDER / name).touch()
    assert noted(tmp_path) == Noted()
    forget(tmp_path, Noted())
    assert len(list((tmp_path / FOLDER).iterdir())) == 3


def test_two_at_a_time(tmp_path: Path) -> None:
    """What one adds is there, whatever the other takes away meanwhile."""
    make_folder(tmp_path)
    old = [Noted(frozenset({sha256(b"old %d" % number)})) for number in range(100)]
    new = [Noted(frozenset({sha256(b"new %d" % number)})) for number in range(100)]
    for each in old:
        note(tmp_path, each)

    def take_away() -> None:
        for each in old:
            forget(tmp_path, each)

    def add() -> None:
        for each in new:
            note(tmp_path, each)

    threads = [threading.Thread(target=take_away), threading.Thread(target=add)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert noted(tmp_path) == Noted(frozenset().union(*(each.blobs for each in new)))


def test_what_a_checkpoint_mends(tmp_path: Path) -> None:
    """Blobs that it names, breaks up to its place, and those of a lineage that was left; not what lies behind it."""
    made = Maker(tmp_path)
    made.begin(NOON_US)
    made.ship(NOON_US)
    checkpoint = made.checkpoint(NOON_US)
    number, ours, other = checkpoint.log.number, set(checkpoint.pieces), "f" * 64
    before, behind, left = Break(made.lineage, number), Break(made.lineage, number + 1), Break(LINEAGE, number + 1)
    found = Noted(frozenset(ours | {other}), frozenset({before, behind, left}))
    assert found.mended_by(checkpoint) == Noted(frozenset(ours), frozenset({before, left}))
    assert [each.is_behind(checkpoint) for each in (before, behind, left)] == [False, True, False]
    needed = [Noted(frozenset({each})).is_needed_by(checkpoint) for each in (*ours, other)]
    assert needed == [True] * len(ours) + [False]
    assert [Noted(breaks=frozenset({each})).is_needed_by(checkpoint) for each in (before, behind, left)] == [False, True, False]
