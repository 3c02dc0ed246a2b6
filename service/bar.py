"""A line on a terminal that says how far long work is. Nothing at all when nobody watches."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from service.tables import size

EVERY_S = 0.2
CELLS = 24
_CLEAR = "\r\x1b[K"


class Watched(Protocol):
    """Work that says where it is. Read while another thread writes."""

    phase: str
    bytes_done: int
    bytes_total: int
    """0 while nobody knows."""

    def eta_s(self) -> float | None:
        """Seconds that are left; None while nobody knows."""


@contextmanager
def bar(work: Watched) -> Iterator[None]:
    """Shows the work on stderr, when that is a terminal, and takes the line away at the end."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    thread = threading.Thread(target=_draw, args=(work, sys.stderr, done), name="bar", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def line(work: Watched) -> str:
    """What is shown."""
    if not work.bytes_total:
        return f"{work.phase} {size(work.bytes_done)}" if work.bytes_done else work.phase
    share = min(1.0, work.bytes_done / work.bytes_total)
    filled = round(share * CELLS)
    left = work.eta_s()
    rest = "" if left is None else f", {left:.0f} s left"
    return f"{work.phase} [{'#' * filled}{'.' * (CELLS - filled)}] {share:.0%} of {size(work.bytes_total)}{rest}"


def _draw(work: Watched, terminal: TextIO, done: threading.Event) -> None:
    while True:
        terminal.write(_CLEAR + line(work))
        terminal.flush()
        if done.wait(EVERY_S):
            break
    terminal.write(_CLEAR)
    terminal.flush()
