"""Data that older versions wrote is read: `written/` has a data directory of each, and grows with every change of what is stored.

0.1.0: before the log could be kept. 120 assets in `books` with the units of `random_units` and one simprint each, number 7 deleted; 36 in
`films` of realm 1; an index that was deleted.
"""

from __future__ import annotations

import random
import shutil
import tarfile
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.engine.opening import LocalData, inspect
from service.engine.requests import Body, Query
from service.engine.verify import verify
from tests.engine.building import META, add, asset, opened, random_units, search, settle, unit
from tests.engine.history import KEPT, tables, whole_log

WRITTEN = Path(__file__).parent / "written"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    with tarfile.open(WRITTEN / "0.1.0.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "data-0.1.0"


def require_everything(engine: Engine) -> None:
    """What was stored, by name and by content."""
    rng = random.Random(1)
    assert [(info.name, info.assets) for info in engine.indexes()] == [("books", 119), ("films", 36)]
    for start in range(0, 120, 10):
        for number in range(start, start + 10):
            units, simprint = random_units(rng, 8), Body(rng.randbytes(16))
            answer = engine.search("books", Query(units, {"CONTENT_TEXT_V0": [simprint]}), 10)
            for matches in (answer.matches, answer.chunk_matches):
                best = [int.from_bytes(match.key, "big") for match in matches if match.score > 0.99]
                assert best == ([] if number == 7 else [number])
        for number in range(start, start + 3):
            matches = search(engine, *random_units(rng, 32), index="films").matches
            assert [int.from_bytes(match.key, "big") for match in matches] == [number]


def test_it_opens_and_nothing_is_wrong(directory: Path) -> None:
    """Without a step by hand; everything is found."""
    assert inspect(directory) == LocalData("whole")
    with opened(directory, KEPT) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        require_everything(engine)
    assert verify(directory) == []


def test_it_is_copied_and_goes_on(directory: Path, tmp_path: Path) -> None:
    """The copy knows its time, which that version kept in the last log row alone, and takes what is written afterwards."""
    with opened(directory, KEPT) as engine:
        (last,) = whole_log(engine)
        export = engine.export(tmp_path / "copy")
        assert (export.sequence, export.time_us) == (29, last.time_us)
        engine.release_log(29)
        add(engine, asset(500, unit(META, bytes(8))), index="books")
        behind = whole_log(engine)
        settle(engine)
    shutil.copytree(tmp_path / "copy", tmp_path / "new" / "live")
    with opened(tmp_path / "new", KEPT) as engine:
        require_everything(engine)
        engine.replay(behind)
    assert tables(tmp_path / "new") == tables(directory)
