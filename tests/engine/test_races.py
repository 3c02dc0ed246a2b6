"""Searches beside writes, sealing and rewriting: what matches before and after a change is found during it."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.engine.options import Options
from service.engine.requests import DeleteAsset
from tests.engine.building import CONTENT, META, add, asset, create, do, flipped, key, opened, search, unit

pytestmark = pytest.mark.timing

SECONDS = 4.0
TINY = Options(segment_codes=32, disk_free_min_bytes=0, dead_share=0.05)


def hammer(engine: Engine, write: threading.Thread, check: threading.Thread) -> None:
    engine.start_background()
    write.start()
    check.start()
    write.join()
    check.join()


def test_asset_that_matches_before_and_after_an_update_is_never_missed(tmp_path: Path) -> None:
    """Each update gives the asset new bodies, all near the query; other codes come and go, so that files change all the time."""
    rng = random.Random(1)
    body = rng.randbytes(8)
    query = unit(META, body)
    until = time.monotonic() + SECONDS
    wrong: list[str] = []
    seen = {"searches": 0, "updates": 0}
    with opened(tmp_path, TINY) as engine:
        create(engine)
        add(engine, asset(1, query))

        def write() -> None:
            turn = 0
            while time.monotonic() < until:
                turn += 1
                near = unit(META, flipped(body, 1 + turn % 15))
                add(engine, asset(1, near, unit(CONTENT, rng.randbytes(8))), asset(2 + turn % 50, unit(META, rng.randbytes(8))))
                if turn % 3 == 0:
                    do(engine, DeleteAsset("a", 0, key(2 + turn % 50)))
            seen["updates"] = turn

        def check() -> None:
            while time.monotonic() < until:
                matches = [match for match in search(engine, query).matches if match.key == key(1)]
                seen["searches"] += 1
                if len(matches) != 1 or not 0.75 <= matches[0].types["META_NONE_V0"] <= 1:
                    wrong.append(f"search {seen['searches']}: {matches}")

        hammer(engine, threading.Thread(target=write), threading.Thread(target=check))
        done = engine.stats().done
    assert wrong == []
    assert done.segments_sealed > 5
    assert done.segments_rewritten > 5
    assert min(seen.values()) > 100


def test_asset_is_found_as_soon_as_its_commit_returned(tmp_path: Path) -> None:
    """Read your own write, every time, while the tail is being sealed."""
    rng = random.Random(2)
    with opened(tmp_path, TINY) as engine:
        create(engine)
        engine.start_background()
        for number in range(1_000):
            own = unit(META, rng.randbytes(32))
            add(engine, asset(number, own))
            assert [match.key for match in search(engine, own).matches] == [key(number)]
        assert engine.stats().done.segments_sealed > 5
