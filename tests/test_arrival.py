"""A start: what it finds wrong on this disk it puts right, or says."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.boot.arrival import Arrival
from service.boot.terms import options
from service.engine.files import DirectoryLock
from service.engine.requests import AddAssets, CreateIndex
from snapshots.damaged import Noted, make_folder, note, noted
from snapshots.directory import DirectoryBucket
from snapshots.fetch import Progress
from snapshots.prefix import Prefix
from snapshots.start import Allowed
from snapshots.verify import verify
from tests.commanding import INDEX, Place, blobs, commit
from tests.engine.building import asset, do, opened, random_units, settle
from tests.engine.test_mending import rot
from tests.system.estate import require_sound


@pytest.mark.parametrize("kind", ["segment", "graph"])
def test_data_with_files_that_rotted_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A first publication finds what no start hashes. All such files are made again first, and nothing of them is in the bucket."""
    place = Place(tmp_path, monkeypatch, EXACT_MAX_CODES=0)
    chance = random.Random(1)
    place.directory.mkdir()
    with opened(place.directory, options(place.settings)) as engine:
        do(engine, CreateIndex(INDEX))
        do(engine, AddAssets(INDEX, [asset(number, *random_units(chance)) for number in range(300)]))
        settle(engine)
    damaged = sorted((place.directory / "live" / "segments").glob(f"*.{kind}"))[:2]
    for path in damaged:
        rot(path, 100, 1)
    with place.owned() as found:
        assert not any(path.exists() for path in damaged)
        assert found.chores.drill().problems == []
        assert found.keeper.newest.counts["assets"] == 300
        require_sound(found.keeper.prefix)
    names = [file.path for file in found.keeper.newest.files]
    assert names
    assert not any(path.name in name for path in damaged for name in names)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"cut")], ids=["missing", "cut"])
def test_what_is_adopted_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[Path], object]) -> None:
    """`--adopt-local` is the way out of a bucket that lost something: blobs that the lineage there names are not believed to be there."""
    place = Place(tmp_path, monkeypatch)
    chance = random.Random(1)
    with place.owned() as found:
        commit(found, CreateIndex(INDEX), AddAssets(INDEX, [asset(number, *random_units(chance)) for number in range(300)]))
        settle(found.engine)
        old = found.keeper.checkpoint().manifest
    assert place.run("restore", "--target", tmp_path / "copy").code == 0
    for path in blobs(place.bucket):
        damage(path)
    make_folder(tmp_path / "copy")
    note(tmp_path / "copy", Noted(frozenset(old.pieces)))
    prefix = Prefix(DirectoryBucket(place.bucket))
    with DirectoryLock(tmp_path / "copy") as lock:
        allowed = Allowed(create=False, serve_unreachable=False, adopt="local")
        arrived = Arrival(tmp_path / "copy", lock, prefix, options(place.settings), allowed, lambda *_: None, lambda *_: None).run()
        arrived.engine.close()
    assert arrived.owned is not None
    made = arrived.owned.newest
    assert made.lineage != old.lineage
    assert made.pieces & old.pieces
    assert noted(tmp_path / "copy").blobs == old.pieces - made.pieces
    report = verify(prefix, made.generation, 1.0, 0, Progress(), time.time_ns() // 1000)
    assert report.problems == ()
