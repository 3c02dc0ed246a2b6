"""The tail in LMDB: several bodies in one value, cut where a sealed block ends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.engine.layout import TAIL_VALUE_BYTES, column_key, parse_tail, tail_values
from service.engine.options import Options
from tests.engine.building import META, add, asset, create, opened, search, settle, unit

SEGMENT_CODES = 100


@pytest.mark.parametrize("length", [8, 16, 24, 32])
@pytest.mark.parametrize("count", [1, 59, 60, 61, 240, 241, 1_000])
def test_bodies_come_back_with_their_rows(length: int, count: int) -> None:
    """Whatever does not fit into one value stands in the next, under the number of its first row."""
    bodies = [random.Random(number).randbytes(length) for number in range(count)]
    found = []
    for key, value in tail_values(column_key(1, 2, length), 7, bodies):
        assert len(value) <= TAIL_VALUE_BYTES
        first, some = parse_tail(key, value)
        found += list(enumerate(some, first))
    assert found == list(enumerate(bodies, 7))


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_in_a_segment_or_in_the_tail(tmp_path: Path, seed: int) -> None:
    """Requests of all sizes, sealed in between, so that blocks end inside values; each opening has the same codes, each once."""
    rng = random.Random(seed)
    options = Options(segment_codes=SEGMENT_CODES, disk_free_min_bytes=0)
    bodies: list[bytes] = []

    def check(engine: Engine) -> None:
        stats = engine.stats()
        assert stats.tail_rows + stats.segment_rows == len(bodies)
        for number in rng.sample(range(len(bodies)), 20):
            assert number in {int.from_bytes(match.key, "big") for match in search(engine, unit(META, bodies[number])).matches}

    with opened(tmp_path, options) as engine:
        create(engine)
    for _ in range(4):
        with opened(tmp_path, options) as engine:
            if bodies:
                check(engine)
            for size in (rng.randrange(1, 300) for _ in range(4)):
                more = [rng.randbytes(32) for _ in range(size)]
                add(engine, *(asset(len(bodies) + number, unit(META, body)) for number, body in enumerate(more)))
                bodies += more
                if rng.random() < 0.6:
                    settle(engine)
            check(engine)
            assert engine.stats().segments > 0 or len(bodies) < SEGMENT_CODES
