"""SIGKILL at every named place of `snapshots` and `service/boot`: the next start has everything, on the same disk and on an empty one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from service.boot.recover import restore_to
from service.engine.options import Options
from snapshots.errors import SnapshotError
from snapshots.fetch import Progress
from snapshots.history import restore_point
from tests.project import ROOT
from tests.system.client import Client, Lost, Refused
from tests.system.estate import INDEX, QUICK, REMOTE, Estate, fill, new_entry, require_entries, require_goes_on, require_sound
from tests.system.model import Entry
from tests.system.server import Server

KILLED = -signal.SIGKILL
SHIPPING = ("ship.frozen", "ship.created", "ship.marked")
PUBLISHING = ("publish.copied", "publish.hashed", "publish.blob", "publish.uploaded", "publish.manifest", "publish.hint")
CLAIMING = ("claim.replayed", "claim.create", "claim.manifest", "fence.create", "fence.created", "claim.fence")
RESTORING = ("restore.piece", "restore.fetched", "restore.ready", "restore.switched")
BEGINNING = ("restore.ready", "restore.switched", "init.manifest", "fence.create", "fence.created")
PUBLISHING_FIRST = ("publish.copied", "publish.blob", "publish.manifest", "init.manifest", "fence.created")
TIDYING = ("prune.manifest", "prune.log", "sweep.listed", "sweep.deleted", "sweep.finished")
"""Places of pruning and sweeping, which need objects that are days old: reached by `tests.system.tidy` with the clock set forward."""
DAYS = 60


def test_every_place_is_tried() -> None:
    """No place of which this file knows nothing."""
    files = [*(ROOT / "snapshots").glob("*.py"), *(ROOT / "service").rglob("*.py")]
    found = {name for path in files for name in re.findall(r'\breach\("([^"]+)"\)', path.read_text("utf-8"))}
    assert found == {*SHIPPING, *PUBLISHING, *CLAIMING, *RESTORING, *BEGINNING, *TIDYING}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    return fill(tmp_path_factory.mktemp("filled"))


@pytest.fixture(scope="module")
def settled(filled: Estate, tmp_path_factory: pytest.TempPathFactory) -> Estate:
    """The same after a stop in order: nothing waits to be shipped."""
    estate = filled.copy(tmp_path_factory.mktemp("settled") / "estate")
    with estate.server() as server:
        assert server.stop() == 0
    estate.shipped, estate.late = estate.everything, []
    return estate


@pytest.fixture
def estate(filled: Estate, tmp_path: Path) -> Estate:
    return filled.copy(tmp_path / "estate")


@contextlib.contextmanager
def armed(estate: Estate, place: str, **settings: object) -> Iterator[Server]:
    """A process that dies at the place; it did when this ends."""
    server = estate.server(**settings, environment={"TIDEPOOL_FAILPOINTS": f"{place}=kill"})
    server.start()
    try:
        yield server
        assert server.wait_exit() == KILLED, server.log()
    finally:
        server.end()


def require_all_back(estate: Estate, possible: Sequence[Entry] = (), *, same: Sequence[Entry] = (), empty: Sequence[Entry] = ()) -> None:
    """What is shipped is there on both disks, `same` on the same one, `empty` also on the empty one; then both go on and are sound.

    The empty disk still has what the dead process left beside `live`.
    """
    other = estate.copy(estate.root / "empty").without_live()
    with estate.server() as server:
        require_entries(server, [*estate.shipped, *same], possible)
        require_goes_on(server, estate.prefix, 90)
    with other.server() as server:
        require_entries(server, [*estate.shipped, *empty], [*possible, *(entry for entry in same if entry not in empty)])
        require_goes_on(server, other.prefix, 91)


@pytest.mark.parametrize("place", SHIPPING)
def test_killed_while_shipping(settled: Estate, tmp_path: Path, place: str) -> None:
    """What was acknowledged is on the disk. Once the object is created it is in the bucket too. No remote write is acknowledged."""
    estate = settled.copy(tmp_path / "estate")
    kept, asked = new_entry(1), new_entry(2)
    with armed(estate, place) as server:
        server.wait_ready()
        with Client(server.port) as local, Client(server.port, headers=REMOTE) as remote:
            with contextlib.suppress(Lost):  # shipping begins at the commit: it may be faster than the answer
                assert local.add(INDEX, [kept]).status == 201
            with pytest.raises((Lost, Refused)):
                remote.add(INDEX, [asked])
    require_all_back(estate, [asked], same=[kept], empty=[] if place == "ship.frozen" else [kept])


@pytest.mark.parametrize("place", PUBLISHING)
def test_killed_in_a_checkpoint(estate: Estate, place: str) -> None:
    """A checkpoint that was cut short costs nothing: the one before and the log have everything."""
    with armed(estate, place) as server:
        server.wait_ready()
        with Client(server.port) as local, Client(server.port, headers=REMOTE) as remote:
            kept, asked = new_entry(1), new_entry(2)
            assert local.add(INDEX, [kept]).status == 201
            assert remote.add(INDEX, [asked]).status == 201
            with pytest.raises(Lost):
                local.send("POST", "/snapshots")
    shipped = [*estate.late, kept, asked]
    require_all_back(estate, same=shipped, empty=shipped)


@pytest.mark.parametrize("place", CLAIMING)
def test_killed_in_a_claim(estate: Estate, place: str) -> None:
    """Rows that were not shipped are still on the disk, and whoever comes next owns the prefix."""
    with armed(estate, place):
        pass
    require_all_back(estate, same=estate.late)


@pytest.mark.parametrize("place", RESTORING)
def test_killed_in_a_restore(estate: Estate, place: str) -> None:
    """A restore goes on where it was."""
    with armed(estate.without_disk(), place):
        pass
    require_all_back(estate)


@pytest.mark.parametrize("place", BEGINNING)
def test_killed_in_a_first_start(tmp_path: Path, place: str) -> None:
    """The next start begins again: there is one index, and it works."""
    estate = Estate(tmp_path / "estate")
    with armed(estate, place):
        pass
    for copy in (estate, estate.copy(estate.root / "empty").without_disk()):
        with copy.server() as server, Client(server.port) as client:
            assert client.create_index(INDEX).status == 201
            require_goes_on(server, copy.prefix, 1)
            require_entries(server, [new_entry(1)])


@pytest.fixture(scope="module")
def unpublished(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    estate = Estate(tmp_path_factory.mktemp("unpublished"))
    with estate.server(SNAPSHOT_URL="none") as server, Client(server.port) as client:
        client.create_index(INDEX)
        estate.late = [new_entry(number) for number in range(10, 20)]
        assert client.add(INDEX, estate.late).status == 201
        server.kill()
    return estate


@pytest.mark.parametrize("place", PUBLISHING_FIRST)
def test_killed_while_data_is_published_for_the_first_time(unpublished: Estate, tmp_path: Path, place: str) -> None:
    """Data that had no bucket: it is on this disk until the bucket has it."""
    estate = unpublished.copy(tmp_path / "estate")
    with armed(estate, place):
        pass
    with estate.server() as server:
        require_entries(server, unpublished.late)
        require_goes_on(server, estate.prefix, 1)
    with estate.without_disk().server() as server:
        require_entries(server, [*unpublished.late, new_entry(1)])


@pytest.fixture(scope="module")
def old(settled: Estate, tmp_path_factory: pytest.TempPathFactory) -> Estate:
    """Three checkpoints, log objects between them and a blob that nobody names; nobody serves it."""
    estate = settled.copy(tmp_path_factory.mktemp("old") / "estate")
    with estate.server(**QUICK) as server:
        for number in range(3):
            estate.shipped.append(require_goes_on(server, estate.prefix, number))
        assert server.stop() == 0
    orphan = estate.bucket / "v1" / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"left by a checkpoint that was cut short")
    return estate


@pytest.mark.parametrize("place", TIDYING)
def test_killed_while_tidying(old: Estate, tmp_path: Path, place: str) -> None:
    """Whatever was deleted by then, the newest state restores, and the next turns finish the work."""
    estate = old.copy(tmp_path / "estate")
    codes = [tidy(estate, days, place) for days in (DAYS, DAYS + 3)]
    assert KILLED in codes
    require_restores(estate, tmp_path / "after-kill")
    assert [tidy(estate, days) for days in (DAYS, DAYS + 3, DAYS + 6)] == [0, 0, 0]
    assert not list(estate.bucket.glob("v1/blobs/ab/abab*"))
    require_restores(estate, tmp_path / "after-all")
    with estate.without_disk().server() as server:
        require_entries(server, estate.shipped)
        require_goes_on(server, estate.prefix, 9, days=DAYS)


def tidy(estate: Estate, days: int, place: str = "") -> int:
    """Prunes and sweeps in a process of its own, so many days later. Its exit code."""
    environment = {**os.environ, "TIDEPOOL_FAILPOINTS": f"{place}=kill" if place else ""}
    return subprocess.run([sys.executable, "-m", "tests.system.tidy", estate.bucket, str(days)], cwd=ROOT, env=environment).returncode


def require_restores(estate: Estate, target: Path) -> None:
    require_sound(estate.prefix, days=DAYS)
    try:
        restore_to(estate.prefix, restore_point(estate.prefix), target, Options(), Progress(), lambda *_: None, force=False)
    except SnapshotError as error:
        pytest.fail(f"the newest state cannot be restored: {error}")
