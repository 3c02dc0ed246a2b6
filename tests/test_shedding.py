"""What waits when the disk or the memory is short, and goes on by itself."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from service.boot import shedding
from service.boot.shedding import Gauge, Shedding
from tests.system.client import Client, metrics
from tests.system.entries import Entries, iscc_id
from tests.system.server import Server, wait_until

INDEX = "works"
SEGMENTS = {"SEGMENT_CODES": 64, "EXACT_MAX_CODES": 0}


def test_each_change_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A line when it begins and one when it ends, however often somebody asks."""
    caplog.set_level(logging.INFO, "tidepool")
    monkeypatch.setattr(shedding, "LOOK_S", 0.0)
    found = [True, True, False, False]
    gauge = Gauge("disk", lambda: found.pop(0))
    assert [gauge.is_short() for _ in range(4)] == [True, True, False, False]
    assert [record.message for record in caplog.records] == ["background work waits", "background work goes on"]


def test_it_is_looked_at_once_a_second() -> None:
    """Asking is cheap enough for every step of the background."""
    found = [True]
    gauge = Gauge("disk", found.pop)
    assert all(gauge.is_short() for _ in range(100))


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


def queue(server: Server) -> dict[str, float]:
    prefix = 'tidepool_background_queue{work="'
    return {name.removeprefix(prefix).rstrip('"}'): value for name, value in metrics(server.port).items() if name.startswith(prefix)}


def paused(server: Server, reason: str) -> float:
    return metrics(server.port)[f'tidepool_background_paused{{reason="{reason}"}}']


def fill(server: Server) -> None:
    source = Entries(1)
    with Client(server.port) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [source.entry(iscc_id(number)) for number in range(300)]).status == 201


def test_a_short_disk_stops_files_and_not_writes(tmp_path: Path) -> None:
    """Codes wait to be sealed, which a metric says; after a restart with room the work is done by itself."""
    status = os.statvfs(tmp_path)
    short = {"DISK_FREE_MIN_BYTES": int(status.f_bavail * status.f_frsize * 0.6)}
    with Server(tmp_path / "data", **SEGMENTS, **short) as server:
        fill(server)
        assert paused(server, "disk") == 1
        assert queue(server)["seal"] > 0
        assert metrics(server.port)["tidepool_engine_segments"] == 0
        assert '"message":"background work waits","reason":"disk"' in server.log()
        assert server.stop() == 0
    with Server(tmp_path / "data", **SEGMENTS) as server:
        wait_until(lambda: queue(server)["seal"] == 0 and metrics(server.port)["tidepool_engine_segments"] > 0, 60, "the segments")
        assert paused(server, "disk") == 0


def test_short_memory_stops_graphs_and_not_sealing(tmp_path: Path) -> None:
    """Sealing gives memory back. Graphs that wait are counted; with room they are built."""
    with Server(tmp_path / "data", **SEGMENTS, MEMORY_MAX_BYTES=1) as server:
        fill(server)
        wait_until(lambda: queue(server)["seal"] == 0 and queue(server)["graph"] > 0, 60, "the segments")
        assert paused(server, "memory") == 1
        assert metrics(server.port)["tidepool_engine_graphs"] == 0
        assert server.stop() == 0
    with Server(tmp_path / "data", **SEGMENTS) as server:
        wait_until(lambda: queue(server)["graph"] == 0 and metrics(server.port)["tidepool_engine_graphs"] > 0, 120, "the graphs")


def test_what_waits_is_counted_in_pieces(tmp_path: Path) -> None:
    """Every job by its name; nothing waits in a service that has nothing to do."""
    with Server(tmp_path / "data") as server:
        assert queue(server) == dict.fromkeys(("seal", "rewrite", "free", "graph", "ship", "checkpoint"), 0.0)
