"""What keeps the bucket up to date: a checkpoint that fails says why, and what can be put right is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.boot.chores import Chores, Schedule
from service.boot.terms import options
from service.engine.requests import AddAssets, CreateIndex
from snapshots import failpoints
from snapshots.errors import Corrupt
from tests.commanding import INDEX, Place, commit
from tests.engine.building import asset, random_units, settle
from tests.engine.test_mending import rot
from tests.system.server import wait_until


def test_the_slowest_commit_beside_a_checkpoint_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last checkpoint only, and not of commits before or after it."""
    place = Place(tmp_path, monkeypatch)
    with place.owned() as found, no_failpoints():
        commit(found, CreateIndex("before"))
        failpoints.arm("publish.copied", lambda: commit(found, CreateIndex("beside")))
        found.keeper.checkpoint()
        beside = found.keeper.checkpoints.write_pause_s
        assert 0 < beside < 60
        commit(found, CreateIndex("after"))
        assert found.keeper.checkpoints.write_pause_s == beside
        failpoints.disarm()
        found.keeper.checkpoint()
        assert found.keeper.checkpoints.write_pause_s == 0


@contextmanager
def no_failpoints() -> Iterator[None]:
    try:
        yield
    finally:
        failpoints.disarm()


@pytest.mark.parametrize("kind", ["segment", "graph"])
def test_a_sealed_file_that_rotted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The checkpoint fails, names the file and what is done about it, and its blob is not made; the next one goes through."""
    place = Place(tmp_path, monkeypatch, EXACT_MAX_CODES=0)
    chance = random.Random(1)
    with place.owned() as found:
        commit(found, CreateIndex(INDEX), AddAssets(INDEX, [asset(number, *random_units(chance)) for number in range(300)]))
        settle(found.engine)
        segments = place.directory / "live" / "segments"
        damaged = sorted(segments.glob(f"*.{kind}"))[0]
        rot(damaged, 100, 1)
        with pytest.raises(Corrupt, match="makes it again from LMDB at once, and then the next checkpoint goes through") as caught:
            found.keeper.checkpoint()
        assert str(caught.value).startswith(f"{damaged} rotted on this disk (")
        assert found.keeper.checkpoints.trouble == str(caught.value)
        found.engine.start_background()
        wait_until(lambda: not damaged.exists(), 30, "the file to be made again")
        found.keeper.checkpoint()
        assert (found.keeper.checkpoints.done, found.keeper.checkpoints.failed, found.keeper.checkpoints.trouble) == (1, 1, "")
        chores = Chores(found.keeper, place.directory, options(place.settings), Schedule(0, 0, ""), lambda *_: None)
        chores.verify(1.0)
        assert chores.done.verify_problems == []
        assert chores.drill().problems == []
