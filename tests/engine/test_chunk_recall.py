"""What the graph tier promises of simprints: 0.99 of the chunk matches that the exact tier finds, up to ten for each query simprint."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.engine.options import Options
from service.engine.requests import Body, Query, Simprint
from tests.engine.building import add, asset, create, opened, settle
from tests.engine.graph_recall import BEST, Codes, Workload, clustered, planted

Make = Callable[[int, int, int], Workload]
Scores = list[dict[Body, list[float]]]
LEAST = 0.99
PER_ASSET, PER_QUERY = 10, 8
LIMIT = 1_000


def bodies(codes: Codes) -> list[Body]:
    return [Body(row.tobytes()) for row in codes.astype(">u8")]


def fill(engine: Engine, stored: list[Body]) -> None:
    """Each asset has simprints from all over, so that an asset seldom matches a query twice."""
    create(engine)
    assets = len(stored) // PER_ASSET
    for start in range(0, assets, 500):
        numbers = range(start, min(start + 500, assets))
        add(engine, *(asset(number, simprints={"X": [Simprint(body, 0, 1) for body in stored[number::assets]]}) for number in numbers))
    settle(engine)


def search(engine: Engine, queries: list[Body]) -> Scores:
    """For each search, the scores of the chunk matches of each query simprint, the best first."""
    found = []
    for start in range(0, len(queries), PER_QUERY):
        scores: defaultdict[Body, list[float]] = defaultdict(list)
        answer = engine.search("a", Query([], {"X": queries[start : start + PER_QUERY]}), LIMIT)
        assert not answer.truncated
        assert len(answer.chunk_matches) < LIMIT
        for match in answer.chunk_matches:
            for chunk in match.types["X"].chunks:
                scores[chunk.query].append(chunk.score)
        found.append({query: sorted(of_query, reverse=True) for query, of_query in scores.items()})
    return found


def share(found: Scores, exact: Scores) -> float:
    """Of the ten best of each query simprint. What ties with the tenth is as good as it."""
    wanted = kept = 0
    for ours, right in zip(found, exact, strict=True):
        for query, scores in right.items():
            best = scores[:BEST]
            kept += min(len(best), sum(score >= best[-1] for score in ours.get(query, [])))
            wanted += len(best)
    return kept / wanted


def recall(directory: Path, workload: Workload, segment_codes: int) -> float:
    """The same directory is asked by scanning and then through graphs."""
    stored, queries = bodies(workload.codes), bodies(workload.queries)
    scanning = Options(segment_codes=segment_codes, disk_free_min_bytes=0, graphs=False)
    with opened(directory, scanning) as engine:
        fill(engine, stored)
        exact = search(engine, queries)
    with opened(directory, Options(segment_codes=segment_codes, disk_free_min_bytes=0, exact_max_codes=1)) as engine:
        settle(engine)
        stats = engine.stats()
        assert stats.graphs == stats.segments
        assert stats.graph_rows > 0.7 * len(stored)
        return share(search(engine, queries), exact)


@pytest.mark.parametrize("bits", [64, 128, 256])
@pytest.mark.parametrize("make", [planted, clustered])
def test_recall_of_chunk_matches(tmp_path: Path, make: Make, bits: int) -> None:
    """Searches of eight simprints over small columns."""
    assert recall(tmp_path, make(bits, 25_000, 400), 4_000) >= LEAST


@pytest.mark.soak
@pytest.mark.parametrize("bits", [64, 128, 256])
@pytest.mark.parametrize("make", [planted, clustered])
def test_recall_of_chunk_matches_of_half_a_million_codes(tmp_path: Path, make: Make, bits: int) -> None:
    """The same in segments of the size that the service makes."""
    found = recall(tmp_path, make(bits, 500_000, 2_000), 65_536)
    print(f"\n{make.__name__} {bits} bits: {found:.4f}")  # noqa: T201 - a figure for the README of the benchmarks
    assert found >= LEAST
