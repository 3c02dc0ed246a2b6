"""Pruning: what goes, what never goes, and dying at every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapshots import failpoints
from snapshots.catalog import log_span
from snapshots.errors import Corrupt, Missing
from snapshots.history import oldest_restorable, restore_point
from snapshots.manifest import Manifest
from snapshots.paths import log_key, manifest_key, parse_log_key, parse_manifest_key
from snapshots.pins import pin
from snapshots.prefix import Prefix
from snapshots.prune import Plan, carry_out, plan
from snapshots.retention import USUAL, Policy
from tests.snapshots.fakes import PlannedBucket
from tests.snapshots.prefixes import DAY_US, HOUR_US, MINUTE_US, NOON_US, Maker


class Death(Exception):
    """The process ends here."""


@pytest.fixture
def die_at() -> Iterator[dict[str, int]]:
    """Names of places, and at which visit the process dies there."""
    deaths: dict[str, int] = {}

    def visit(name: str) -> None:
        if name in deaths:
            deaths[name] -= 1
            if deaths[name] == 0:
                raise Death(name)

    names = ("prune.manifest", "prune.log")
    for name in names:
        failpoints.arm(name, lambda name=name: visit(name))  # type: ignore[misc]  # a default argument binds the name
    yield deaths
    for name in names:
        failpoints.arm(name, lambda: None)


def hourly(root: Path, days: int, until_us: int = NOON_US) -> Maker:
    """An object each half hour and a checkpoint each hour, up to now; a new owner each midnight."""
    start_us = until_us - days * DAY_US
    made = Maker(root, start_us)
    made.begin(start_us)
    for hour in range(days * 24 + 1):
        at_us = start_us + hour * HOUR_US
        made.ship(at_us)
        made.checkpoint(at_us)
        if hour % 24 == 12:
            made.claim(at_us + MINUTE_US)
        if hour < days * 24:
            made.ship(at_us + HOUR_US // 2, rows=3, size=700)
    return made


def generations(plan: Plan) -> set[int]:
    return {parse_manifest_key(each.key) or 0 for each in plan.manifests}


def numbers(plan: Plan) -> list[int]:
    return [(parse_log_key(each.key) or ("", 0))[1] for each in plan.log]


def prune(prefix: Prefix, now_us: int) -> Plan:
    made = plan(prefix, now_us)
    done = carry_out(prefix, made)
    assert (done.manifests, done.log_objects, done.spared, done.undeleted) == (len(made.manifests), len(made.log), (), ())
    assert done.bytes == sum(each.bytes for each in made.log)
    return made


def test_nothing_is_there(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bucket")
    assert prune(made.prefix, NOON_US) == Plan(NOON_US)


def test_ten_days(tmp_path: Path) -> None:
    """Days and weeks are thinned, the last day is not; afterwards there is nothing more to do."""
    made = hourly(tmp_path / "bucket", 10)
    done = prune(made.prefix, NOON_US)
    left = [made.prefix.manifest(generation) for generation in made.prefix.generations()]
    checkpoints = [(NOON_US - each.created_us) // HOUR_US for each in left if each.kind == "checkpoint"]
    # The last day, then the last of each day, and the last of the week before those.
    assert checkpoints[-25:] == list(range(24, -1, -1))
    assert all(age % 24 == 13 for age in checkpoints[:-25])
    assert 6 <= len(checkpoints[:-25]) <= 9
    assert len([each for each in left if each.kind == "claim"]) == 11
    assert plan(made.prefix, NOON_US).manifests == ()
    assert plan(made.prefix, NOON_US).log == ()
    assert done.kept_log[0].objects == len(made.log_numbers())
    assert {each.generation for each in done.kept} == {each.generation for each in left if each.kind == "checkpoint"}


def test_the_log_of_the_window(tmp_path: Path) -> None:
    """The log is whole from the newest checkpoint on that is older than a day; before that only fences are left."""
    made = hourly(tmp_path / "bucket", 3)
    now_us = NOON_US + 10 * MINUTE_US
    prune(made.prefix, now_us)
    base = next(each for each in made.manifests if each.created_us == NOON_US - DAY_US and each.kind == "checkpoint")
    assert made.prefix.log_object(made.lineage, base.log.number) is not None, "a disk that shipped it asks for its digest"
    assert log_span(made.prefix, made.lineage).first <= base.log.number
    before = [number for number in made.log_numbers() if number < base.log.number]
    assert before, "fences were there"
    assert all(not found.rows for number in before if (found := made.prefix.log_object(made.lineage, number)))
    assert oldest_restorable(made.prefix) == base.created_us
    for minutes in range(0, 24 * 60, 17):
        at_us = now_us - minutes * MINUTE_US
        point = restore_point(made.prefix, at_us=at_us)
        _require_restorable(made, point.manifest)
        assert point.manifest.base_time_us <= at_us


def test_the_checkpoint_of_the_window_is_kept(tmp_path: Path) -> None:
    """Although no span asks for it: the log would have to reach back to the evening before."""
    made = hourly(tmp_path / "bucket", 4, NOON_US - 2 * HOUR_US)
    now_us = NOON_US + HOUR_US - MINUTE_US
    done = plan(made.prefix, now_us)
    reasons = [each.reasons for each in done.kept if "the window begins behind it" in each.reasons]
    assert len(reasons) == 1
    held = next(each.generation for each in done.kept if "the window begins behind it" in each.reasons)
    assert 0 <= now_us - DAY_US - made.manifests[held - 1].created_us < HOUR_US


def test_claims_and_fences_stay(tmp_path: Path) -> None:
    """However old: the next name of a writer that slept is always taken."""
    made = hourly(tmp_path / "bucket", 5)
    fences = [number for number in made.log_numbers() if not getattr(made.prefix.log_object(made.lineage, number), "rows", None)]
    claims = [each.generation for each in made.manifests if each.kind == "claim"]
    later_us = NOON_US + 400 * DAY_US
    prune(made.prefix, later_us)
    assert set(fences) <= set(made.log_numbers())
    assert set(claims) <= set(made.prefix.generations())
    assert len(made.prefix.generations()) == len(claims) + 1


def test_the_newest_can_always_be_restored(tmp_path: Path) -> None:
    """An index that nobody wrote to for a year, whose newest manifest is a claim on the newest checkpoint."""
    made = hourly(tmp_path / "bucket", 2)
    base = made.newest
    made.ship(NOON_US + 1)
    made.ship(NOON_US + 2)
    made.claim(NOON_US + 3)
    prune(made.prefix, NOON_US + 400 * DAY_US)
    newest = made.prefix.newest()
    assert newest is not None
    assert newest.base_generation == base.generation
    assert made.prefix.manifest(base.generation) == base
    rows = [row.sequence for each in made.prefix.follow(made.lineage, newest.log) for row in each.rows]
    assert rows == [base.base_sequence + 1, base.base_sequence + 2]
    assert made.prefix.log_object(made.lineage, base.log.number) is not None


def test_without_a_checkpoint_everything_stays(tmp_path: Path) -> None:
    """The index began empty: all of it is in the log."""
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    for _ in range(3):
        made.ship(NOON_US)
    done = prune(made.prefix, NOON_US + 400 * DAY_US)
    assert (done.manifests, done.log) == ((), ())
    assert made.log_numbers() == [1, 2, 3, 4]


def test_the_first_checkpoint_ends_it_a_day_later(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    for _ in range(3):
        made.ship(NOON_US)
    made.checkpoint(NOON_US + 2 * DAY_US)
    assert prune(made.prefix, NOON_US + 3 * DAY_US - 1).log == ()
    assert numbers(prune(made.prefix, NOON_US + 3 * DAY_US)) == [2, 3]


def test_young_in_the_bucket(tmp_path: Path) -> None:
    """What the store calls young stays, whatever our own clock wrote into it; the log is deleted only up to there."""
    made = hourly(tmp_path / "bucket", 5)
    first = plan(made.prefix, NOON_US)
    touched = sorted(generations(first))[3]
    made.date(manifest_key(touched), NOON_US - DAY_US + MINUTE_US)
    made.date(log_key(made.lineage, numbers(first)[5]), NOON_US - DAY_US + MINUTE_US)
    second = plan(made.prefix, NOON_US)
    assert generations(second) == generations(first) - {touched}
    assert numbers(second) == numbers(first)[:5]
    assert [each.reasons for each in second.kept if each.generation == touched] == [("young in the bucket",)]


def test_young_by_our_clock(tmp_path: Path) -> None:
    """What we wrote within a day stays, also when the store's clock is far behind."""
    made = hourly(tmp_path / "bucket", 2)
    for key in made.keys("v1/"):
        made.date(key, NOON_US - 100 * DAY_US)
    young = {each.generation for each in made.manifests if each.created_us > NOON_US - DAY_US}
    middle_us = NOON_US - HOUR_US // 4
    made.checkpoint(middle_us)
    made.checkpoint(middle_us + 1)
    made.date(manifest_key(made.newest.generation - 1), NOON_US - 100 * DAY_US)
    later_us = NOON_US + 12 * HOUR_US
    for policy in (USUAL, Policy(hourly=0, daily=0, weekly=0, window_s=60)):
        gone = generations(plan(made.prefix, later_us, policy))
        assert gone
        assert not gone & {each.generation for each in made.manifests if each.created_us > later_us - DAY_US}
    assert not generations(plan(made.prefix, NOON_US)) & young


def test_what_the_newest_manifest_stands_on(tmp_path: Path) -> None:
    """Even if that were an old checkpoint, below others: it stays, and the log behind it."""
    made = hourly(tmp_path / "bucket", 5)
    first = next(each for each in made.manifests if each.kind == "checkpoint")
    assert first.generation in generations(plan(made.prefix, NOON_US))
    strange = msgspec.structs.replace(first, kind="claim", generation=made.newest.generation + 1, created_us=NOON_US)
    assert made.prefix.create_manifest(strange) is not None
    done = plan(made.prefix, NOON_US)
    assert first.generation not in generations(done)
    assert done.log == ()


def test_a_clock_far_ahead_deletes_nothing_that_is_needed(tmp_path: Path) -> None:
    """A clock that is ten years ahead costs the past, not the present."""
    made = hourly(tmp_path / "bucket", 2)
    prune(made.prefix, NOON_US + 3650 * DAY_US)
    point = restore_point(made.prefix)
    assert made.is_whole(point.manifest)
    assert point.manifest.base_sequence == made.end.sequence


def test_pins_hold(tmp_path: Path) -> None:
    made = hourly(tmp_path / "bucket", 5)
    doomed = sorted(generations(plan(made.prefix, NOON_US)))
    pin(made.prefix, "a", doomed[0], None, NOON_US)
    pin(made.prefix, "b", doomed[1], NOON_US + HOUR_US, NOON_US)
    assert generations(plan(made.prefix, NOON_US)) == set(doomed[2:])
    assert generations(plan(made.prefix, NOON_US + HOUR_US)) >= set(doomed[1:])


def test_pinned_after_the_plan(tmp_path: Path) -> None:
    """Nothing that is pinned by then is deleted."""
    made = hourly(tmp_path / "bucket", 5)
    old = plan(made.prefix, NOON_US)
    held = min(generations(old))
    pin(made.prefix, "late", held, None, NOON_US)
    done = carry_out(made.prefix, old)
    assert done.spared == (manifest_key(held),)
    assert made.prefix.manifest(held).generation == held


def test_pinned_while_it_is_deleted(tmp_path: Path) -> None:
    """Another process pins the checkpoint when the pins were looked at already: both were told that all went well, so it is there."""
    made = hourly(tmp_path / "bucket", 3)
    bucket = PlannedBucket(made.bucket)
    old = plan(made.prefix, NOON_US)
    held = min(generations(old))
    before = made.prefix.manifest(held)

    def come_between(name: str, key: str) -> None:
        if (name, key) == ("delete", manifest_key(held)):
            pin(made.prefix, "late", held, None, NOON_US)

    bucket.gate = come_between
    done = carry_out(Prefix(bucket), old)
    assert done.spared == (manifest_key(held),)
    assert done.manifests == len(old.manifests) - 1
    assert made.prefix.manifest(held) == before


def test_what_cannot_be_read_stops_it(tmp_path: Path) -> None:
    """Who does not know all manifests and pins must not delete."""
    made = hourly(tmp_path / "bucket", 3)
    key = manifest_key(7)
    body = made.bucket.get(key)
    made.bucket.replace(key, body[:-1])
    with pytest.raises(Corrupt, match=key):
        plan(made.prefix, NOON_US)
    made.bucket.replace(key, body)
    made.bucket.replace("v1/pins/bad.json", b"")
    with pytest.raises(Corrupt, match="bad"):
        plan(made.prefix, NOON_US)


def test_damaged_log_objects_are_left_alone(tmp_path: Path) -> None:
    """A small one may be a fence; other files are nobody's."""
    made = hourly(tmp_path / "bucket", 3)
    small = min(numbers(plan(made.prefix, NOON_US)))
    made.bucket.replace(log_key(made.lineage, small), b"?")
    made.date(log_key(made.lineage, small), NOON_US - 3 * DAY_US)
    made.bucket.replace(f"v1/log/{made.lineage}/notes.txt", b"?")
    made.date(f"v1/log/{made.lineage}/notes.txt", NOON_US - 3 * DAY_US)
    done = prune(made.prefix, NOON_US)
    assert small not in numbers(done)
    assert not [each for each in done.log if each.key.endswith(".txt")]


def test_a_lineage_that_was_left(tmp_path: Path) -> None:
    """While the window reaches into its time it is kept like the newest. Then its rows go, its fences stay, its checkpoints age."""
    made = hourly(tmp_path / "bucket", 3)
    left, tail = made.lineage, made.end.number
    checkpoints = [each.generation for each in made.manifests if each.kind == "checkpoint"]
    made.leave(NOON_US + MINUTE_US)
    made.ship(NOON_US + 2 * MINUTE_US)
    within_us = NOON_US + DAY_US - 15 * MINUTE_US
    prune(made.prefix, within_us)
    assert restore_point(made.prefix, at_us=within_us - DAY_US).lineage == left, "a row of half past eleven is behind the checkpoint"
    assert log_span(made.prefix, left).tail == tail + 1
    after_us = NOON_US + DAY_US + HOUR_US
    prune(made.prefix, after_us)
    assert all(not found.rows for number in made.log_numbers(left) if (found := made.prefix.log_object(left, number)))
    assert tail + 1 in made.log_numbers(left)
    assert checkpoints[-1] in made.prefix.generations(), "to go back to, for those who notice a mistake late"
    assert restore_point(made.prefix).lineage == made.lineage
    assert restore_point(made.prefix, sequence=made.end.sequence).until_sequence == made.end.sequence
    assert restore_point(made.prefix, at_us=NOON_US).lineage == left, "its last checkpoint, and no row behind it"
    with pytest.raises(Missing, match="was pruned"):
        restore_point(made.prefix, at_us=NOON_US - MINUTE_US)
    prune(made.prefix, NOON_US + 100 * DAY_US)
    assert not set(checkpoints) & set(made.prefix.generations())


def test_rows_of_a_lineage_without_any_manifest(tmp_path: Path) -> None:
    """Its checkpoints were pruned: nothing can use them."""
    made = hourly(tmp_path / "bucket", 1)
    made.leave(NOON_US)
    middle = made.lineage
    made.ship(NOON_US)
    made.leave(NOON_US)
    later_us = NOON_US + 100 * DAY_US
    prune(made.prefix, later_us)
    assert middle not in {made.prefix.manifest(each).lineage for each in made.prefix.generations()}
    assert made.log_numbers(middle) == [1, 3]


@pytest.mark.parametrize("name", ["prune.manifest", "prune.log"])
@pytest.mark.parametrize("visit", [1, 2, 3])
def test_dying(tmp_path: Path, die_at: dict[str, int], name: str, visit: int) -> None:
    """At any step: what is left is consistent, the same plan can be carried out again, and the next one finds the rest."""
    made = hourly(tmp_path / "bucket", 3)
    untouched = hourly(tmp_path / "other", 3)
    expected = prune(untouched.prefix, NOON_US)
    old = plan(made.prefix, NOON_US)
    die_at[name] = visit
    with pytest.raises(Death):
        carry_out(made.prefix, old)
    there = set(made.prefix.generations())
    assert len(generations(old) - there) == (visit if name == "prune.manifest" else len(old.manifests))
    rest = plan(made.prefix, NOON_US)
    assert generations(rest) == generations(old) & there
    assert made.is_whole(restore_point(made.prefix, at_us=NOON_US - DAY_US).manifest)
    assert oldest_restorable(made.prefix) is not None
    gone = set(numbers(old)) - set(made.log_numbers())
    assert gone == set(numbers(old)[: 16 * visit if name == "prune.log" else 0])
    carry_out(made.prefix, old)
    carry_out(made.prefix, old)
    assert made.prefix.generations() == untouched.prefix.generations()
    assert made.log_numbers() == untouched.log_numbers()
    assert generations(expected) == generations(old)


class Liar:
    """Says that it deleted, and did not."""

    def __init__(self, made: Maker) -> None:
        self._inner = made.bucket

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def delete(self, key: str) -> bool:
        return self._inner.head(key) is None


def test_a_store_that_does_not_delete(tmp_path: Path) -> None:
    """What is still there is reported."""
    made = hourly(tmp_path / "bucket", 3)
    prefix = Prefix(Liar(made))  # type: ignore[arg-type]  # the rest is passed on
    old = plan(prefix, NOON_US)
    done = carry_out(prefix, old)
    assert (done.manifests, done.log_objects, done.bytes) == (0, 0, 0)
    assert set(done.undeleted) == {each.key for each in (*old.manifests, *old.log)}


STEPS = st.lists(
    st.tuples(st.sampled_from(["ship", "ship", "checkpoint", "checkpoint", "claim", "leave", "prune"]), st.integers(0, 40 * 60)),
    max_size=25,
)


@given(STEPS)
@settings(max_examples=20, deadline=None)
def test_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Whatever happened and whenever it was pruned: the newest state and every moment of the last day can be restored."""
    made = Maker(tmp_path_factory.mktemp("bucket"))
    made.begin(NOON_US)
    now_us = NOON_US
    left_us: dict[str, int] = {}
    for what, minutes in steps:
        now_us += minutes * MINUTE_US + 1
        lineage = made.lineage
        if what == "prune":
            prune(made.prefix, now_us)
        else:
            getattr(made, what)(now_us)
        if made.lineage != lineage:
            left_us[lineage] = now_us
    prune(made.prefix, now_us)
    _require_restorable(made, restore_point(made.prefix).manifest)
    for minutes in range(0, 24 * 60 + 1, 97):
        at_us = now_us - minutes * MINUTE_US
        if at_us < NOON_US:
            break
        point = restore_point(made.prefix, at_us=at_us)
        assert at_us < left_us.get(point.lineage, at_us + 1)
        _require_restorable(made, point.manifest)


def _require_restorable(made: Maker, manifest: Manifest) -> None:
    """The log behind it is chained to its very end."""
    place = manifest.log
    for found in made.prefix.follow(manifest.lineage, place):
        place = found.place
    made.prefix.require_end(manifest.lineage, place)
    assert place.number == log_span(made.prefix, manifest.lineage).tail
