"""Which checkpoints are kept, and what counts as young. Pure: the clock comes in as an argument.

Hours, days and weeks are those of the calendar (UTC, weeks begin on Monday). With spans that slide along with the clock, a checkpoint
would be pushed out of its span by the next one before it is old enough for the next longer span, and none would ever grow old.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

HOUR_US = 3_600 * 1_000_000
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
WINDOW_US = DAY_US
"""Nothing younger is deleted, whatever a policy says."""
SKEW_US = 300 * 1_000_000
"""By so much the clock of the store may be behind ours."""

_MONDAY_US = 3 * DAY_US  # 1970 began on a Thursday


class Policy(msgspec.Struct, frozen=True):
    """What the operator wants kept: the newest checkpoint of so many hours, days and weeks, and every moment of the last `window_s`."""

    hourly: int = 24
    daily: int = 7
    weekly: int = 4
    window_s: int = 86_400

    @property
    def window_us(self) -> int:
        return self.window_s * 1_000_000

    @property
    def spans(self) -> list[tuple[str, int, int, int]]:
        """Name, length, how many, and by how much the first one begins before 1970; none of which nothing is wanted."""
        found = [("hourly", HOUR_US, self.hourly, 0), ("daily", DAY_US, self.daily, 0), ("weekly", WEEK_US, self.weekly, _MONDAY_US)]
        return [span for span in found if span[2]]


USUAL = Policy()


class Dated(Protocol):
    """A checkpoint, as far as this module asks."""

    @property
    def generation(self) -> int: ...

    @property
    def created_us(self) -> int: ...


def kept(checkpoints: Sequence[Dated], pinned: set[int], now_us: int, policy: Policy = USUAL) -> set[int]:
    """Generations to keep: never none, when there is one."""
    return set(reasons(checkpoints, pinned, now_us, policy))


def reasons(checkpoints: Sequence[Dated], pinned: set[int], now_us: int, policy: Policy = USUAL) -> dict[int, list[str]]:
    """Why a generation is kept; one that is not named can go. Newer is what has the larger generation, whatever the clocks said."""
    found: dict[int, list[str]] = {}
    ordered = sorted(checkpoints, key=lambda each: each.generation)
    if ordered:
        found[ordered[-1].generation] = ["newest"]
    for each in ordered:
        if each.generation in pinned:
            found.setdefault(each.generation, []).append("pinned")
        if each.created_us > now_us - HOUR_US:
            found.setdefault(each.generation, []).append("last hour")
    for name, span_us, count, shift_us in policy.spans:
        first = (now_us + shift_us) // span_us - count  # the one that runs now comes on top
        newest_of = {(each.created_us + shift_us) // span_us: each.generation for each in ordered}
        for span, generation in newest_of.items():
            if span >= first:
                found.setdefault(generation, []).append(name)
    return found


def is_old(modified_s: float, now_us: int) -> bool:
    """Whether an object is older than the window, also when the store's clock is a little behind."""
    return modified_s * 1_000_000 < now_us - WINDOW_US - SKEW_US
