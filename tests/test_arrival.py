"""A start: what it finds wrong on this disk it puts right, or says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from service.boot.life import options
from service.engine.requests import AddAssets, CreateIndex
from tests.commanding import INDEX, Place
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
