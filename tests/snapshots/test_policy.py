"""What an operator can choose of the retention, and what nobody can."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshots.catalog import log_span
from snapshots.errors import Missing
from snapshots.fetch import Progress
from snapshots.history import oldest_restorable, restore_point
from snapshots.manifest import Manifest
from snapshots.prune import carry_out, plan
from snapshots.retention import Policy
from snapshots.verify import verify
from tests.snapshots.prefixes import DAY_US, HOUR_US, MINUTE_US, NOON_US, Maker

NOW_US = NOON_US + 10 * MINUTE_US


def hourly(root: Path, days: int) -> Maker:
    """An object and a checkpoint each hour, up to noon."""
    made = Maker(root, NOON_US - days * DAY_US)
    made.begin(NOON_US - days * DAY_US)
    for hour in range(days * 24 + 1):
        at_us = NOON_US - (days * 24 - hour) * HOUR_US
        made.ship(at_us)
        made.checkpoint(at_us)
    return made


def checkpoint_ages(made: Maker) -> list[int]:
    """In hours before noon, from the youngest."""
    left: list[Manifest] = [made.prefix.manifest(generation) for generation in made.prefix.generations()]
    return sorted((NOON_US - each.created_us) // HOUR_US for each in left if each.kind == "checkpoint")


def problems(made: Maker, policy: Policy) -> tuple[str, ...]:
    return verify(made.prefix, None, 1.0, 0, Progress(), NOW_US, policy).problems


def test_nothing_beyond_the_window(tmp_path: Path) -> None:
    """Without hours, days and weeks only the window is left, and the checkpoint from which it is reached."""
    made = hourly(tmp_path / "bucket", 3)
    carry_out(made.prefix, plan(made.prefix, NOW_US, Policy(0, 0, 0)))
    assert checkpoint_ages(made) == list(range(25))


def test_more_days(tmp_path: Path) -> None:
    """As many days as somebody wants."""
    made = hourly(tmp_path / "bucket", 5)
    carry_out(made.prefix, plan(made.prefix, NOW_US, Policy(0, 3, 0)))
    assert [age for age in checkpoint_ages(made) if age > 24] == [37, 61], "the last of each of three days, one of which is in the window"


def test_a_longer_window(tmp_path: Path) -> None:
    """Every moment of it can be restored after a prune, and none of what is older."""
    made = hourly(tmp_path / "bucket", 5)
    policy = Policy(window_s=3 * 86_400)
    carry_out(made.prefix, plan(made.prefix, NOW_US, policy))
    for hours in range(72):
        assert restore_point(made.prefix, at_us=NOW_US - hours * HOUR_US).manifest.base_time_us <= NOW_US - hours * HOUR_US
    oldest_us = oldest_restorable(made.prefix)
    assert oldest_us is not None
    assert NOW_US - 3 * DAY_US - HOUR_US <= oldest_us <= NOW_US - 3 * DAY_US
    with pytest.raises(Missing, match="the oldest time that can be restored is"):
        restore_point(made.prefix, at_us=NOW_US - 4 * DAY_US)
    assert problems(made, policy) == ()


def test_a_longer_window_is_no_damage_before_it_is_full(tmp_path: Path) -> None:
    """What was pruned under a shorter window is not missed by a check under a longer one."""
    made = hourly(tmp_path / "bucket", 5)
    carry_out(made.prefix, plan(made.prefix, NOW_US))
    assert problems(made, Policy(window_s=4 * 86_400)) == ()


def test_nothing_young_goes_whatever_the_window(tmp_path: Path) -> None:
    """A window of no time at all deletes no object of the last day, and what is left is whole."""
    made = hourly(tmp_path / "bucket", 3)
    policy = Policy(0, 0, 0, 0)
    carry_out(made.prefix, plan(made.prefix, NOW_US, policy))
    assert checkpoint_ages(made) == list(range(24))
    assert log_span(made.prefix, made.lineage).first <= made.manifests[-24].log.number
    assert problems(made, policy) == ()
    assert problems(made, Policy()) != (), "a window of a day would need what is gone by now"
