"""Generations, how they differ, and where to begin for a moment of the past."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapshots.catalog import iso, log_span, reigns
from snapshots.errors import Corrupt, Missing, Refused
from snapshots.history import Change, Point, diff, generations, oldest_restorable, restore_point
from snapshots.log import Place
from snapshots.paths import log_key, manifest_key
from snapshots.pins import pin
from snapshots.prune import carry_out, plan
from tests.snapshots.prefixes import DAY_US, HOUR_US, MINUTE_US, NOON_US, SECOND_US, Maker

ONE, TWO, THREE, FOUR = (NOON_US + hour * HOUR_US for hour in range(1, 5))


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Generations: 1 began empty at noon; at one, two and three each a row, then a checkpoint (2, 3, 5), at half past two a claim (4).

    Log: fence 1, row 2, row 3, fence 4, row 5, and at four row 6.
    """
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    for at_us in (ONE, TWO, THREE):
        if at_us == THREE:
            made.claim(TWO + HOUR_US // 2)
        made.ship(at_us)
        made.checkpoint(at_us + SECOND_US, base_time_us=at_us)
    made.ship(FOUR)
    return made


def remove_log(made: Maker, *numbers: int) -> None:
    for number in numbers:
        (made.root / log_key(made.lineage, number)).unlink()


def test_generations(maker: Maker) -> None:
    """Everything that a table shows."""
    pin(maker.prefix, "b", 3, None, FOUR)
    pin(maker.prefix, "a", 4, FOUR + HOUR_US, FOUR)
    found = generations(maker.prefix, FOUR)
    assert [(each.generation, each.kind, each.base_generation, each.base_sequence, each.epoch) for each in found] == [
        (1, "claim", 0, 0, 1),
        (2, "checkpoint", 2, 1, 1),
        (3, "checkpoint", 3, 2, 1),
        (4, "claim", 3, 2, 2),
        (5, "checkpoint", 5, 3, 2),
    ]
    assert [each.pinned_by for each in found] == [(), (), ("a", "b"), (), ()]
    assert [each.pinned_by for each in generations(maker.prefix, FOUR + HOUR_US)][2] == ("b",)
    assert {each.lineage for each in found} == {maker.lineage}
    assert found[2].counts == {"assets": 2}
    assert (found[0].bytes, found[2].bytes, found[3].bytes) == (0, 2500, 2500)
    assert (found[1].created_us, found[1].base_time_us) == (ONE + SECOND_US, ONE)
    assert all(each.restorable and each.replayable for each in found)


def test_what_can_be_restored(maker: Maker) -> None:
    """A claim whose checkpoint is gone has no files; a base whose log is gone has no later moments."""
    (maker.root / manifest_key(3)).unlink()
    remove_log(maker, 2, 3)
    found = {each.generation: (each.restorable, each.replayable) for each in generations(maker.prefix, FOUR)}
    assert found == {1: (True, False), 2: (True, False), 4: (False, False), 5: (True, True)}


def test_diff(maker: Maker) -> None:
    a = maker.checkpoint(FOUR, {"data": b"a" * 2500, "old": b"o" * 10, "same": b"s" * 1500})
    maker.ship(FOUR, rows=4)
    b = maker.checkpoint(FOUR, {"data": b"a" * 1000 + b"b" * 1200, "new": b"n" * 10, "same": b"s" * 1500})
    found = diff(a, b)
    assert (found.added, found.removed) == ((Change("new", 0, 10),), (Change("old", 10, 0),))
    assert found.changed == (Change("data", 2500, 2200),)
    assert found.new_bytes == 10 + 1000 + 200
    assert (found.counts, found.sequences, found.same_lineage) == ({"assets": 4}, 4, True)
    back = diff(b, a)
    assert (back.counts, back.sequences, back.new_bytes) == ({"assets": -4}, -4, 10 + 500)
    assert diff(a, a).counts == {}
    assert not diff(a, maker.leave(FOUR)).same_lineage


@pytest.mark.parametrize(
    ("at_us", "generation"),
    [
        (NOON_US, 1),
        (ONE - 1, 1),
        (ONE, 2),  # the base is of one o'clock, though the manifest was made a second later
        (ONE + SECOND_US, 2),
        (TWO - 1, 2),
        (TWO, 3),
        (THREE - 1, 3),
        (THREE, 5),
        (FOUR + DAY_US, 5),
    ],
)
def test_a_time(maker: Maker, at_us: int, generation: int) -> None:
    """The newest base that has nothing later in it."""
    found = restore_point(maker.prefix, at_us=at_us)
    assert found == Point(maker.prefix.manifest(generation), maker.lineage, until_us=at_us)


@pytest.mark.parametrize(("sequence", "generation"), [(1, 2), (2, 3), (3, 5)])
def test_a_sequence_that_is_a_base(maker: Maker, sequence: int, generation: int) -> None:
    """Nothing is replayed, so the log is not needed."""
    remove_log(maker, 2, 3, 5)
    assert restore_point(maker.prefix, sequence=sequence) == Point(maker.prefix.manifest(generation), maker.lineage)


def test_a_sequence(maker: Maker) -> None:
    assert restore_point(maker.prefix, sequence=4) == Point(maker.newest, maker.lineage, until_sequence=4)
    assert restore_point(maker.prefix, sequence=0) == Point(maker.manifests[0], maker.lineage)
    (maker.root / manifest_key(3)).unlink()
    assert restore_point(maker.prefix, sequence=2) == Point(maker.manifests[1], maker.lineage, until_sequence=2)
    with pytest.raises(Missing, match=f"request 5 is not in .*: lineage {maker.lineage} ends at 4"):
        restore_point(maker.prefix, sequence=5)


def test_the_end(maker: Maker) -> None:
    """Without a target, all of the log; the base alone when nothing came after it."""
    assert restore_point(maker.prefix) == Point(maker.newest, maker.lineage, until_sequence=4)
    newest = maker.checkpoint(FOUR)
    assert restore_point(maker.prefix) == Point(newest, maker.lineage)
    maker.claim(FOUR)
    assert restore_point(maker.prefix).manifest.pieces == newest.pieces


def test_an_index_that_is_empty(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bucket")
    with pytest.raises(Missing, match="holds no snapshot"):
        restore_point(made.prefix)
    assert oldest_restorable(made.prefix) is None
    assert generations(made.prefix, NOON_US) == []
    made.begin(NOON_US)
    assert restore_point(made.prefix) == Point(made.newest, made.lineage)
    made.ship(ONE)
    assert restore_point(made.prefix) == Point(made.newest, made.lineage, until_sequence=1)
    assert restore_point(made.prefix, at_us=ONE) == Point(made.newest, made.lineage, until_us=ONE)
    assert oldest_restorable(made.prefix) == NOON_US


@pytest.mark.parametrize("generation", range(1, 6))
def test_a_generation(maker: Maker, generation: int) -> None:
    """Its base, and nothing of the log, which may be gone; other manifests may be damaged."""
    remove_log(maker, 2, 3, 5, 6)
    maker.bucket.replace(manifest_key(1 if generation > 1 else 2), b"?")
    assert restore_point(maker.prefix, generation=generation) == Point(maker.manifests[generation - 1], maker.lineage)


@pytest.mark.parametrize(("generation", "until"), [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4)])
def test_a_generation_and_its_log(maker: Maker, generation: int, until: int) -> None:
    """To the end of the log, whatever is wrong with the files of newer generations."""
    maker.prefix.bucket.replace(manifest_key(5 if generation != 5 else 3), b"damaged")
    found = restore_point(maker.prefix, generation=generation, replay=True)
    assert (found.manifest.generation, found.until_sequence, found.until_us) == (generation, until, None)


def test_a_generation_whose_log_is_gone(maker: Maker) -> None:
    """It can be restored as it was made, and only so."""
    assert maker.prefix.bucket.delete(log_key(maker.lineage, 5))
    with pytest.raises(Missing, match="the log behind generation 2 was pruned: it can be restored only as it was made"):
        restore_point(maker.prefix, generation=2, replay=True)
    assert restore_point(maker.prefix, generation=2).until_sequence is None


def test_a_generation_that_is_not_there(maker: Maker) -> None:
    (maker.root / manifest_key(3)).unlink()
    for generation, words in ((9, "no generation 9"), (3, "no generation 3"), (4, "stands on the checkpoint 3, which was pruned")):
        with pytest.raises(Missing, match=words):
            restore_point(maker.prefix, generation=generation)


def test_one_target(maker: Maker) -> None:
    with pytest.raises(Refused, match="give one of them"):
        restore_point(maker.prefix, sequence=0, generation=0)


def test_before_the_beginning(maker: Maker) -> None:
    with pytest.raises(Missing, match=re.escape(f"the oldest time that can be restored is {iso(NOON_US)}")):
        restore_point(maker.prefix, at_us=NOON_US - 1)


def test_the_log_was_pruned(maker: Maker) -> None:
    """The error names the oldest time that can be restored, and that one can; and what else there is."""
    remove_log(maker, 2, 3)
    with pytest.raises(Missing, match="the log that leads from generation 2 to") as caught:
        restore_point(maker.prefix, at_us=TWO - 1)
    assert f"the oldest time that can be restored is {iso(TWO)}; generation 2 can be restored as it was made, at request 1" in str(
        caught.value
    )
    assert oldest_restorable(maker.prefix) == TWO
    assert restore_point(maker.prefix, at_us=TWO).manifest.generation == 3
    (maker.root / manifest_key(3)).unlink()
    assert oldest_restorable(maker.prefix) == THREE
    with pytest.raises(Missing, match="the log that leads from generation 2 to request 2 was pruned"):
        restore_point(maker.prefix, sequence=2)


def test_a_checkpoint_was_pruned(maker: Maker) -> None:
    """And the index did not begin empty."""
    (maker.root / manifest_key(1)).unlink()
    (maker.root / manifest_key(2)).unlink()
    with pytest.raises(Missing, match=re.escape(f"nothing that was there at {iso(ONE)} is left: the oldest time")):
        restore_point(maker.prefix, at_us=ONE)
    with pytest.raises(Missing, match="no checkpoint of request 1 or before is left"):
        restore_point(maker.prefix, sequence=1)


def test_holes(maker: Maker) -> None:
    """One in the middle: everything from the next base on can be restored, and nothing across the hole."""
    remove_log(maker, 5)
    assert restore_point(maker.prefix, at_us=FOUR).manifest.generation == 5
    assert restore_point(maker.prefix, sequence=4).manifest.generation == 5
    for at_us in (NOON_US, ONE, TWO, THREE - 1):
        with pytest.raises(Missing, match=re.escape(iso(THREE))):
            restore_point(maker.prefix, at_us=at_us)
    remove_log(maker, 6)
    with pytest.raises(Missing, match="no time can be restored"):
        restore_point(maker.prefix, at_us=FOUR)


def test_a_damaged_manifest(maker: Maker) -> None:
    """Which lineage was in effect is not known then."""
    maker.bucket.replace(manifest_key(2), b"?")
    with pytest.raises(Corrupt, match=manifest_key(2)):
        restore_point(maker.prefix, at_us=FOUR)


def test_two_lineages(maker: Maker) -> None:
    """Each time belongs to the lineage that was in effect; a sequence to the newest."""
    left = maker.lineage
    taken = maker.leave(FOUR + HOUR_US)
    maker.ship(FOUR + 2 * HOUR_US)
    assert restore_point(maker.prefix, at_us=FOUR + HOUR_US - 1).lineage == left
    assert restore_point(maker.prefix, at_us=FOUR + HOUR_US) == Point(taken, maker.lineage, until_us=FOUR + HOUR_US)
    assert restore_point(maker.prefix, sequence=5) == Point(taken, maker.lineage, until_sequence=5)
    with pytest.raises(Missing, match="no checkpoint of request 3"):
        restore_point(maker.prefix, sequence=3)
    assert oldest_restorable(maker.prefix) == NOON_US


def test_the_first_manifests_of_a_lineage_were_pruned(maker: Maker) -> None:
    """A time after the old lineage was left is never answered with the old lineage."""
    left = maker.lineage
    taken = maker.leave(FOUR + HOUR_US)
    maker.checkpoint(FOUR + 3 * HOUR_US)
    (maker.root / manifest_key(taken.generation)).unlink()
    assert restore_point(maker.prefix, at_us=FOUR + HOUR_US - 1).lineage == left
    with pytest.raises(Missing, match="is not known any more"):
        restore_point(maker.prefix, at_us=FOUR + 2 * HOUR_US)
    assert oldest_restorable(maker.prefix) == FOUR + 3 * HOUR_US


def test_a_hole_behind_which_everything_could_be_restored(maker: Maker) -> None:
    """The oldest restorable time is behind the last hole."""
    maker.leave(FOUR + HOUR_US)
    maker.ship(FOUR + 2 * HOUR_US)
    maker.checkpoint(FOUR + 3 * HOUR_US)
    remove_log(maker, 2)
    maker.ship(FOUR + 4 * HOUR_US)
    assert oldest_restorable(maker.prefix) == FOUR + 3 * HOUR_US


def test_the_log_of_a_lineage_that_was_left_is_gone(maker: Maker) -> None:
    maker.leave(FOUR + HOUR_US)
    left = maker.manifests[0].lineage
    (maker.root / log_key(left, 6)).unlink()
    assert oldest_restorable(maker.prefix) == FOUR + HOUR_US
    with pytest.raises(Missing, match="was pruned"):
        restore_point(maker.prefix, at_us=FOUR)


def test_spans(maker: Maker) -> None:
    span = log_span(maker.prefix, maker.lineage)
    assert (span.first, span.tail) == (1, 6)
    remove_log(maker, 2, 5)
    span = log_span(maker.prefix, maker.lineage)
    assert (span.first, span.tail) == (6, 6)
    assert [span.goes_on(Place(number, "", 0)) for number in range(3, 9)] == [False, False, True, True, False, False]
    nothing = log_span(maker.prefix, "0" * 32)
    assert (nothing.first, nothing.tail) == (1, 0)
    assert nothing.goes_on(Place(0, "", 0))
    assert not nothing.goes_on(Place(1, "", 0))


def test_reigns(maker: Maker) -> None:
    maker.leave(FOUR)
    (maker.root / manifest_key(5)).unlink()
    found = reigns([each for each in maker.manifests if each.generation != 5])
    assert [(each.from_us, each.until_us, each.adjoins) for each in found] == [(NOON_US, FOUR, False), (FOUR, None, False)]


def test_iso() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000000Z"
    assert iso(NOON_US + 1) == "2024-10-04T12:00:00.000001Z"


STEPS = st.lists(
    st.tuples(st.sampled_from(["ship", "ship", "ship", "checkpoint", "checkpoint", "claim", "leave", "prune"]), st.integers(1, 20 * 60)),
    max_size=25,
)


@given(STEPS, st.data())
@settings(max_examples=15, deadline=None)
def test_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]], data: st.DataObject) -> None:
    """A time that can be restored gives exactly the rows that were there then; every time from the oldest restorable on can be.

    The model is the list of (time, lineage, last sequence) after each step.
    """
    made = Maker(tmp_path_factory.mktemp("bucket"))
    made.begin(NOON_US)
    now_us, model = NOON_US, [(NOON_US, made.lineage, 0)]
    for what, minutes in steps:
        now_us += minutes * MINUTE_US
        if what == "prune":
            carry_out(made.prefix, plan(made.prefix, now_us))
        else:
            getattr(made, what)(now_us)
        model.append((now_us, made.lineage, made.end.sequence))
    oldest = oldest_restorable(made.prefix)
    assert oldest is not None
    for at_us in {*(time_us for time_us, _, _ in model), oldest, data.draw(st.integers(NOON_US, now_us))}:
        try:
            point = restore_point(made.prefix, at_us=at_us)
        except Missing:
            assert at_us < oldest
            continue
        _, lineage, sequence = [step for step in model if step[0] <= at_us][-1]
        assert (point.lineage, _restored(made, point)) == (lineage, sequence)
    end = restore_point(made.prefix)
    assert (end.lineage, _restored(made, end)) == (made.lineage, made.end.sequence)


def _restored(made: Maker, point: Point) -> int:
    """The last sequence of a restore."""
    assert made.is_whole(point.manifest)
    sequence, place = point.manifest.base_sequence, point.manifest.log
    if point.until_us is None and point.until_sequence is None:
        return sequence
    for found in made.prefix.follow(point.lineage, place):
        place = found.place
        for row in found.rows:
            if point.until_us is not None and row.time_us > point.until_us:
                return sequence
            if point.until_sequence is not None and row.sequence > point.until_sequence:
                return sequence
            sequence = row.sequence
    made.prefix.require_end(point.lineage, place)
    return sequence
