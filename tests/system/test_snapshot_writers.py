"""Two live processes on one bucket: the older one ends, says who owns it, keeps what it could not ship, and overwrites nothing."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshots.paths import log_key
from snapshots.unshipped import read_unshipped
from tests.system.client import Client, Lost, Refused
from tests.system.estate import (
    INDEX,
    REMOTE,
    Estate,
    checkpoint,
    end_of,
    fill,
    is_acknowledged,
    new_entry,
    prune_log,
    require_entries,
    require_goes_on,
    require_sound,
    tree,
)
from tests.system.frozen import freeze, thaw, wait_frozen
from tests.system.lookup import find_wholly
from tests.system.model import Entry
from tests.system.server import Server, wait_until

FENCED = 5
CERTAIN_SECONDS = 10.0
"""So long an owner that heard nothing believes that it still is."""
BEFORE = 20
"""Writes to the old owner before the new one starts."""
HEAD = "v1/HEAD.json"
OWNER = re.compile(r"was created by another writer: writer [0-9a-f]{32} on \S+ owns epoch \d+$")
OWNER_OF_MANIFEST = re.compile(r"has a new owner: writer [0-9a-f]{32} on \S+ claimed epoch \d+ \(generation \d+\)$")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    estate = fill(tmp_path_factory.mktemp("filled"))
    with estate.server() as server:
        assert server.stop() == 0
    estate.shipped, estate.late = estate.everything, []
    return estate


@pytest.fixture
def old(filled: Estate, tmp_path: Path) -> Estate:
    return filled.copy(tmp_path / "old")


@pytest.fixture
def new(old: Estate, tmp_path: Path) -> Estate:
    """Another machine with an empty disk and the same bucket."""
    other = Estate(tmp_path / "new")
    other.bucket = old.bucket
    return other


class Writer:
    """Writes one asset after the other to a service until it is gone or refuses. `told` is what was acknowledged, and when."""

    def __init__(self, server: Server, headers: dict[str, str]) -> None:
        self.told: list[tuple[Entry, float]] = []
        self.untold: list[Entry] = []
        self._server = server
        self._headers = headers
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def join(self) -> None:
        self._thread.join()

    @property
    def entries(self) -> list[Entry]:
        return [entry for entry, _ in self.told]

    def _run(self) -> None:
        with Client(self._server.port, headers=self._headers) as client:
            for number in range(100_000):
                entry = {**new_entry(number), "metadata": {"name": marker(number)}}
                try:
                    status = client.add(INDEX, [entry]).status
                except (Lost, Refused):
                    status = 0
                if status != 201:
                    self.untold.append(entry)
                    return
                self.told.append((entry, time.time()))


def marker(number: int) -> str:
    """Stands in the row of the log as it is."""
    return f"asset number {number:06}."


def take_over(old: Server, new: Estate, headers: dict[str, str]) -> tuple[Writer, Server]:
    """The new owner, ready, after the old one ended under a writer."""
    writer = Writer(old, headers)
    wait_until(lambda: len(writer.told) >= BEFORE, 60, "writes")
    server = new.server()
    server.start()
    try:
        server.wait_ready()
        code, words = end_of(old)
        assert code == FENCED
        assert OWNER.search(words), words
        writer.join()
    except BaseException:
        server.end()
        raise
    return writer, server


def test_remote_writes_are_never_acknowledged_by_the_old_owner(old: Estate, new: Estate) -> None:
    """What it said is in the bucket is what the new owner has, and what an empty disk gets."""
    with old.server() as first:
        writer, second = take_over(first, new, REMOTE)
        try:
            require_entries(second, [*old.shipped, *writer.entries], writer.untold)
            require_goes_on(second, old.prefix, 200_000)
        finally:
            second.end()
    with new.without_disk().server() as third:
        require_entries(third, [*old.shipped, *writer.entries, new_entry(200_000)], writer.untold)


def test_local_writes_end_within_an_interval_and_are_kept(old: Estate, new: Estate) -> None:
    """What the old owner acknowledged after the take-over is in a file; nothing of it is in the bucket, and nothing is anywhere twice."""
    interval = 0.2
    with old.server(LOG_INTERVAL=interval) as first:
        writer, second = take_over(first, new, {})
        try:
            with Client(second.port) as client:
                there = find_wholly(client, INDEX, [*old.shipped, *writer.entries, *writer.untold])
            require_goes_on(second, old.prefix, 200_000)
        finally:
            second.end()
        kept = b"".join(row.data for path in old.data.glob("*.fenced-*.log") for row in read_unshipped(path).rows)
        assert not list(old.data.glob("*.fenced-*.log")) or "writes that never reached the bucket are kept in" in first.log()
    assert {entry["iscc_id"] for entry in old.shipped} <= there
    for entry, _ in writer.told:
        saved = entry["metadata"]["name"].encode() in kept
        assert saved != (entry["iscc_id"] in there), f"{entry} is {'twice' if saved else 'nowhere'}"
    taken = fence_time(old)
    assert max(at for _, at in writer.told) - taken < interval + 2


def fence_time(estate: Estate) -> float:
    """When the newest owner's fence was created."""
    newest = estate.prefix.newest()
    assert newest is not None
    fences = [
        found for found in estate.prefix.follow(newest.lineage, newest.log) if found.header.writer == newest.writer and not found.rows
    ]
    keys = [log_key(newest.lineage, found.header.number) for found in fences] or [_last_fence(estate, newest.lineage, newest.epoch)]
    return (estate.bucket / keys[0]).stat().st_mtime


def _last_fence(estate: Estate, lineage: str, epoch: int) -> str:
    """Before the newest checkpoint."""
    numbers = sorted(int(path.stem) for path in (estate.bucket / "v1" / "log" / lineage).glob("*.log"))
    for number in numbers:
        found = estate.prefix.log_object(lineage, number)
        if found is not None and found.header.epoch == epoch and not found.rows:
            return log_key(lineage, number)
    raise AssertionError("the owner has no fence")


def write(server: Server) -> bool:
    return is_acknowledged(server, new_entry(300))


def make_checkpoint(server: Server) -> bool:
    with Client(server.port) as client:
        try:
            return client.send("POST", "/snapshots").status != 503
        except (Lost, Refused):
            return False


@pytest.mark.parametrize(
    ("act", "pruned"),
    [(make_checkpoint, False), (make_checkpoint, True), (write, True), pytest.param(write, False, marks=pytest.mark.soak)],
)
def test_an_owner_that_slept_is_refused(old: Estate, new: Estate, act: Callable[[Server], bool], *, pruned: bool) -> None:
    """It wakes up after a take-over, writes and a checkpoint, also when the log that it knew was deleted meanwhile: its first write
    is not acknowledged, it ends with 5, and not one object of the new owner is changed."""
    with old.server() as first:
        freeze(first)
        asleep = time.monotonic()
        with new.server() as second:
            written = require_goes_on(second, old.prefix, 1)
            if pruned:
                assert prune_log(old.prefix) > 0
            if act is write:
                wait_until(lambda: time.monotonic() - asleep > CERTAIN_SECONDS, 30, "the sleep to be longer than any certainty")
            before = tree(old.bucket)
            thaw(first)
            assert not act(first)
            code, words = end_of(first)
            assert code == FENCED
            assert OWNER.search(words) or OWNER_OF_MANIFEST.search(words), words
            after = tree(old.bucket)
            assert {name: after[name] for name in before} == before
            assert all(name.startswith("v1/blobs/") for name in after.keys() - before.keys())
            require_entries(second, [*old.shipped, written])
            require_goes_on(second, old.prefix, 2, days=60 if pruned else 0)


@pytest.mark.parametrize("place", ["ship.frozen", "publish.uploaded", "fence.create"])
def test_an_owner_that_froze_on_the_way_is_fenced(old: Estate, new: Estate, place: str) -> None:
    """Its next object was ready to be created when somebody took over: it finds the name taken, and leaves everything as it is."""
    first = old.server(environment={"TIDEPOOL_FAILPOINTS": f"{place}=stop"})
    first.start()
    try:
        asking = reach_place(first, place)
        wait_frozen(first)
        with new.server() as second:
            written = require_goes_on(second, old.prefix, 1)
            before = tree(old.bucket)
            thaw(first)
            code, words = end_of(first)
            asking.join()
            assert code == FENCED, words
            after = tree(old.bucket)
            assert {name: after[name] for name in before} == before
            require_entries(second, [*old.shipped, written])
            require_goes_on(second, old.prefix, 2)
    finally:
        first.end()


def reach_place(server: Server, place: str) -> threading.Thread:
    """Something that leads there, begun."""

    def ask() -> None:
        if place == "fence.create":
            return
        server.wait_ready()
        with Client(server.port) as client:
            if place == "ship.frozen":
                assert client.add(INDEX, [new_entry(5)]).status in (201, 503)
            else:
                assert client.send("POST", "/snapshots").status == 503

    thread = threading.Thread(target=ask)
    thread.start()
    return thread


def test_of_two_starts_the_later_claim_owns(old: Estate, new: Estate) -> None:
    """A start that stood still before its claim goes on behind the claim of the other, which ends; nothing of either is lost."""
    first = old.server(environment={"TIDEPOOL_FAILPOINTS": "claim.create=stop"})
    first.start()
    try:
        wait_frozen(first)
        with new.server() as second:
            with Client(second.port, headers=REMOTE) as client:
                assert client.add(INDEX, [new_entry(1)]).status == 201
                checkpoint(client)
            thaw_until_ready(first)
            require_entries(first, [*old.shipped, new_entry(1)])
            assert not is_acknowledged(second, new_entry(2), REMOTE)
            assert end_of(second)[0] == FENCED
        require_goes_on(first, old.prefix, 3)
    finally:
        first.end()
    require_sound(old.prefix)


def thaw_until_ready(server: Server) -> None:
    """The place is passed once for each try."""
    deadline = time.monotonic() + 60
    while not server.is_ready():
        assert time.monotonic() < deadline, server.log()
        thaw(server)
        threading.Event().wait(0.02)
