"""Signs of life: a process that stood still knows it before it does anything else."""

from __future__ import annotations

import threading

import pytest

from snapshots import clock
from snapshots.clock import BEAT_S, JUMPED, STILL_S, STOOD_STILL, Clock

NEVER = float("-inf")


class SetClock(Clock):
    """Shows what the test sets."""

    def __init__(self) -> None:
        self.now, self.wall = 1000.0, 50_000.0
        super().__init__()
        self.woken: list[tuple[str, float]] = []
        self._woke = lambda how, seconds: self.woken.append((how, seconds))

    def now_s(self) -> float:
        return self.now

    def wall_s(self) -> float:
        return self.wall

    def pass_by(self, seconds: float, *, wall: float | None = None) -> None:
        self.now += seconds
        self.wall += seconds if wall is None else wall


def test_a_process_that_goes_on() -> None:
    """Gives signs often enough, also when each is late."""
    found = SetClock()
    for _ in range(100):
        found.pass_by(STILL_S - 0.01)
        found.beat()
    assert (found.awake_since_s, found.woken) == (NEVER, [])
    assert BEAT_S < STILL_S / 2


def test_a_process_that_stood_still() -> None:
    """Is awake since the first sign after it, whoever gives that; told once."""
    found = SetClock()
    found.pass_by(STILL_S + 1)
    found.beat()
    assert (found.awake_since_s, found.woken) == (found.now, [(STOOD_STILL, STILL_S + 1)])
    awake = found.now
    found.pass_by(1)
    found.beat()
    assert (found.awake_since_s, len(found.woken)) == (awake, 1)


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_pause_that_only_the_time_of_day_shows(seconds: float) -> None:
    """A machine that was saved and loaded again: its own clock went on where it was. Or the clock was set, which looks the same."""
    found = SetClock()
    found.pass_by(0.1, wall=seconds)
    found.beat()
    assert found.awake_since_s == found.now
    ((how, jumped),) = found.woken
    assert how == JUMPED
    assert jumped == pytest.approx(seconds, abs=0.2)


def test_a_pause_that_both_clocks_show() -> None:
    """Is one, and the process stood still for certain."""
    found = SetClock()
    found.pass_by(STILL_S + 1, wall=60.0)
    found.beat()
    assert found.woken == [(STOOD_STILL, STILL_S + 1)]


def test_a_time_of_day_that_is_set_right_a_little() -> None:
    found = SetClock()
    for _ in range(100):
        found.pass_by(1, wall=1.5)
        found.beat()
    assert found.woken == []


def test_the_real_one_beats_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its end."""
    monkeypatch.setattr(clock, "BEAT_S", 0.001)
    beaten, found = threading.Semaphore(0), Clock()
    beat = found.beat

    def counted() -> None:
        beat()
        beaten.release()

    monkeypatch.setattr(found, "beat", counted)
    others = threading.enumerate()  # shippers that other tests left running beat too
    found.watch(lambda how, seconds: pytest.fail(f"it never stood still, but {how} {seconds}"))
    (thread,) = (each for each in threading.enumerate() if each.name == "pulse" and each not in others)
    for _ in range(3):
        assert beaten.acquire(timeout=10)
    found.end()
    thread.join(10)
    assert not thread.is_alive()
