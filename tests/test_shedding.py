"""What waits when the disk or the memory is short, and goes on by itself."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from service.boot import shedding
from service.boot.shedding import Gauge, Shedding
from service.engine.engine import Engine
from service.engine.options import Options
from service.engine.requests import AddAssets, CreateIndex, DeleteIndex
from tests.api.inside import opened
from tests.engine.building import add, index
from tests.system.server import wait_until

SMALL = Options(segment_codes=64, exact_max_codes=0)
PAUSED = 'tidepool_background_paused{{reason="{}"}} {}'


def test_each_change_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A line when it begins and one when it ends, however often somebody asks."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(shedding, "LOOK_S", 0.0)
    found = [True, True, False, False]
    gauge = Gauge("disk", lambda: found.pop(0))
    assert [gauge.is_short() for _ in range(4)] == [True, True, False, False]
    assert [record.message for record in caplog.records] == ["background work waits", "background work goes on"]


def test_it_is_looked_at_once_a_second() -> None:
    """Asking is cheap enough for every step of the background."""
    looked: list[None] = []
    gauge = Gauge("disk", lambda: looked.append(None) is not None)
    for _ in range(100):
        gauge.is_short()
    assert len(looked) == 1


def test_the_background_stops_before_writes_do(tmp_path: Path) -> None:
    """At twice the room that writes leave free."""
    free = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
    assert Shedding(tmp_path, int(free * 0.6), 0).shown() == {"disk": True, "memory": False}
    assert Shedding(tmp_path, int(free * 0.4), 0).shown() == {"disk": False, "memory": False}
    assert Shedding(tmp_path / "not" / "there", int(free * 0.6), 0).is_short() is False


def test_own_memory_counts_and_mapped_files_do_not(tmp_path: Path) -> None:
    """A limit below what the process has; none."""
    assert Shedding(tmp_path, 0, 1).shown() == {"disk": False, "memory": True}
    assert Shedding(tmp_path, 0, 1 << 40).is_short() is False
    assert Shedding(tmp_path, 0, 0).is_short() is False


def _queue(engine: Engine) -> dict[str, int]:
    return engine.background_queue()
