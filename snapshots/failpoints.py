"""Named places at which a test lets the process die or fail. Nothing happens there unless a test asked for it."""

from __future__ import annotations

from collections.abc import Callable

_armed: dict[str, Callable[[], None]] = {}


def arm(name: str, action: Callable[[], None]) -> None:
    """Runs `action` whenever the place is reached."""
    _armed[name] = action


def disarm() -> None:
    """Nothing happens at any place."""
    _armed.clear()


def reach(name: str) -> None:
    """The process is at the place `name`."""
    action = _armed.get(name)
    if action is not None:
        action()
