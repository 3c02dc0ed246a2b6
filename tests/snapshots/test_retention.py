"""Which checkpoints are kept."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from snapshots.retention import DAY_US, HOUR_US, WEEK_US, WINDOW_US, is_old, kept, reasons
from tests.snapshots.prefixes import MINUTE_US, NOON_US


class Checkpoint(msgspec.Struct, frozen=True):
    generation: int
    created_us: int


@st.composite
def histories(draw: st.DrawFn) -> list[Checkpoint]:
    """Minutes before noon, up to 60 days; generations count up with time."""
    ages = draw(st.lists(st.integers(0, 60 * 24 * 60), max_size=60))
    return [Checkpoint(number + 1, NOON_US - age * MINUTE_US) for number, age in enumerate(sorted(ages, reverse=True))]


PINS = st.sets(st.integers(1, 60), max_size=5)


@given(histories(), PINS)
def test_what_is_always_kept(checkpoints: list[Checkpoint], pinned: set[int]) -> None:
    """The newest, those of the last hour, pinned ones; nothing that is not there, and never nothing."""
    found = kept(checkpoints, pinned, NOON_US)
    there = {each.generation for each in checkpoints}
    assert found <= there
    assert bool(found) == bool(there)
    assert pinned & there <= found
    assert {each.generation for each in checkpoints if each.created_us > NOON_US - HOUR_US} <= found
    if checkpoints:
        assert checkpoints[-1].generation in found


@given(histories(), st.sampled_from([(HOUR_US, 24), (DAY_US, 7), (WEEK_US, 4)]))
def test_every_span_keeps_one(checkpoints: list[Checkpoint], span: tuple[int, int]) -> None:
    """For each checkpoint of the last 24 hours (7 days, 4 weeks): it, or one that is younger by less than an hour (day, week)."""
    span_us, count = span
    found = kept(checkpoints, set(), NOON_US)
    times = [each.created_us for each in checkpoints if each.generation in found]
    for each in checkpoints:
        if each.created_us >= NOON_US - count * span_us:
            assert any(each.created_us <= time < each.created_us + span_us for time in times)


@given(histories())
def test_no_more_than_promised(checkpoints: list[Checkpoint]) -> None:
    """Of what is older than an hour: one for each hour, day and week, the one that runs counted on top, and the newest."""
    found = kept(checkpoints, set(), NOON_US)
    old = [each for each in checkpoints if each.generation in found and each.created_us <= NOON_US - HOUR_US]
    assert len(old) <= 25 + 8 + 5 + 1
    assert not [each for each in old[:-1] if each.created_us < NOON_US - 5 * WEEK_US]


@given(histories(), st.lists(st.integers(0, 30 * 24), max_size=6), PINS)
def test_pruning_often_keeps_what_pruning_once_keeps(checkpoints: list[Checkpoint], pauses: list[int], pinned: set[int]) -> None:
    """However often it was pruned before: a checkpoint is never pushed out of a short span before a long one has taken it."""
    now_us, left = NOON_US, checkpoints
    for pause in pauses:
        now_us += pause * HOUR_US
        ids = kept(left, pinned, now_us)
        left = [each for each in left if each.generation in ids]
        assert kept(left, pinned, now_us) == ids
    assert {each.generation for each in left} >= kept(checkpoints, pinned, now_us)
    assert kept(left, pinned, now_us) == kept(checkpoints, pinned, now_us)


def test_a_month_of_hourly_checkpoints() -> None:
    """Pruned every hour, as a service does: after a month there are hourly, daily and weekly ones, back to four weeks."""
    left: list[Checkpoint] = []
    for hour in range(24 * 40):
        now_us = NOON_US + hour * HOUR_US
        left.append(Checkpoint(hour + 1, now_us))
        ids = kept(left, set(), now_us)
        left = [each for each in left if each.generation in ids]
    ages = [(now_us - each.created_us) // HOUR_US for each in left]
    assert ages == sorted(ages, reverse=True)
    assert {age for age in ages if age <= 24} == set(range(25))
    assert 24 * 7 * 3 < ages[0] <= 24 * 7 * 5
    assert len(left) <= 25 + 7 + 5


def test_one_a_year_old() -> None:
    """The only one is kept, however old."""
    assert reasons([Checkpoint(3, NOON_US - 365 * DAY_US)], set(), NOON_US) == {3: ["newest"]}


def test_the_newest_is_that_of_the_largest_generation() -> None:
    """A clock that was set back does not make an old checkpoint the newest."""
    assert kept([Checkpoint(1, NOON_US - 99 * DAY_US), Checkpoint(2, NOON_US - 100 * DAY_US)], set(), NOON_US) == {2}


def test_a_clock_ahead() -> None:
    """What was made in the future counts as made now."""
    assert kept([Checkpoint(1, NOON_US + DAY_US), Checkpoint(2, NOON_US)], set(), NOON_US) == {1, 2}


def test_old() -> None:
    assert not is_old((NOON_US - WINDOW_US) / 1e6, NOON_US)
    assert not is_old((NOON_US - WINDOW_US) / 1e6 - 299, NOON_US)
    assert is_old((NOON_US - WINDOW_US) / 1e6 - 301, NOON_US)
    assert not is_old(NOON_US / 1e6 + 3600, NOON_US)
