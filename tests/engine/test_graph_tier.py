"""The graph tier inside the engine: built in the background, swapped in, checked at open, gone with its segment."""

from __future__ import annotations

import random
from pathlib import Path

from service.engine.engine import Engine
from service.engine.options import Options
from service.engine.requests import Body, DeleteAsset, Query, Simprint
from tests.engine.building import META, Events, add, asset, create, do, flipped, key, opened, search, settle, unit

GRAPHS = Options(segment_codes=256, disk_free_min_bytes=0, exact_max_codes=500)
ASSETS = 1_000


def fill(engine: Engine, seed: int = 1) -> list[bytes]:
    rng = random.Random(seed)
    bodies = [rng.randbytes(32) for _ in range(ASSETS)]
    create(engine)
    add(engine, *(asset(number, unit(META, body)) for number, body in enumerate(bodies)))
    settle(engine)
    return bodies


def finds(engine: Engine, body: bytes) -> list[int]:
    return [int.from_bytes(match.key, "big") for match in search(engine, unit(META, body)).matches]


def graph_files(directory: Path) -> list[Path]:
    return sorted((directory / "live" / "segments").glob("*.graph"))


def test_large_type_is_searched_through_graphs_with_the_scores_of_the_exact_tier(tmp_path: Path) -> None:
    """Planted near-duplicates are found with the similarity that follows from the stored body; the tail stays exact."""
    with opened(tmp_path, GRAPHS) as engine:
        bodies = fill(engine)
        stats = engine.stats()
        assert stats.graphs == stats.segments == stats.done.graphs_built > 1
        assert stats.tail_rows > 0
        for number, body in enumerate(bodies):
            matches = search(engine, unit(META, flipped(body, 20))).matches
            assert [(match.key, match.types) for match in matches] == [(key(number), {"META_NONE_V0": 1 - 20 / 256})]


def test_shorter_queries_are_scanned_until_their_graphs_are_built(tmp_path: Path) -> None:
    """The first query of a length asks for graphs of that length; answers are the same before and after."""
    with opened(tmp_path, GRAPHS) as engine:
        bodies = fill(engine)
        before = engine.stats().graphs
        assert all(finds(engine, body[:8])[0] == number for number, body in enumerate(bodies))
        settle(engine)
        assert engine.stats().graphs == 2 * before
        assert all(finds(engine, body[:8])[0] == number for number, body in enumerate(bodies))


def test_bodies_that_share_their_first_bits_are_all_found_through_one_key(tmp_path: Path) -> None:
    """Cut bodies are one vector of the graph: the run behind its row is searched whole."""
    rng = random.Random(3)
    shared = rng.randbytes(8)
    with opened(tmp_path, GRAPHS) as engine:
        create(engine)
        add(engine, *(asset(number, unit(META, shared + rng.randbytes(24))) for number in range(300)))
        add(engine, *(asset(1000 + number, unit(META, rng.randbytes(32))) for number in range(700)))
        settle(engine)
        query = unit(META, flipped(shared, 2))
        search(engine, query)
        settle(engine)
        assert engine.stats().graphs > engine.stats().segments
        assert len(search(engine, query, limit=1000).matches) == 300


def test_deleted_codes_are_not_found_and_go_with_their_segment(tmp_path: Path) -> None:
    """Stale codes are invisible at once; a rewrite takes their graphs away and new ones are built."""
    with opened(tmp_path, GRAPHS) as engine:
        bodies = fill(engine)
        old = graph_files(tmp_path)
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in range(0, ASSETS, 3)))
        assert all(finds(engine, body) == ([number] if number % 3 else []) for number, body in enumerate(bodies))
        settle(engine)
        assert not set(old) & set(graph_files(tmp_path))
        assert engine.stats().graphs == engine.stats().segments > 0
        assert all(finds(engine, body) == ([number] if number % 3 else []) for number, body in enumerate(bodies))


def test_graphs_are_checked_at_open_and_damaged_ones_built_again(tmp_path: Path) -> None:
    """A flipped bit, a cut tail, a missing file: said, counted, built again; never opened."""
    with opened(tmp_path, GRAPHS) as engine:
        bodies = fill(engine)
    flip, cut, missing, *_ = graph_files(tmp_path)
    content = bytearray(flip.read_bytes())
    content[len(content) // 2] ^= 1
    flip.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-100])
    missing.unlink()
    events: Events = []
    with opened(tmp_path, GRAPHS, events) as engine:
        assert engine.stats().graphs == 0
        assert all(finds(engine, body) == [number] for number, body in enumerate(bodies))
        settle(engine)
        assert [name for name, _ in events].count("graph file is missing or damaged, building it again") == 3
        assert engine.stats().done.graphs_discarded == engine.stats().done.graphs_built == 3
        assert all(finds(engine, body) == [number] for number, body in enumerate(bodies))


def test_graphs_can_be_switched_off(tmp_path: Path) -> None:
    """Then everything is scanned, whatever files are there."""
    with opened(tmp_path, GRAPHS) as engine:
        bodies = fill(engine)
    with opened(tmp_path, Options(segment_codes=256, disk_free_min_bytes=0, exact_max_codes=500, graphs=False)) as engine:
        settle(engine)
        assert (engine.stats().graphs, engine.stats().done.graphs_built) == (0, 0)
        assert all(finds(engine, body) == [number] for number, body in enumerate(bodies))


def test_simprints_are_searched_through_graphs_with_the_answers_of_the_exact_tier(tmp_path: Path) -> None:
    """Whatever a graph finds of an asset, all that the asset matches counts."""
    rng = random.Random(9)
    bodies = [[Body(rng.randbytes(16)) for _ in range(5)] for _ in range(300)]
    with opened(tmp_path, GRAPHS) as engine:
        create(engine)
        add(engine, *(asset(number, simprints={"X": [Simprint(body, 0, 1) for body in own]}) for number, own in enumerate(bodies)))
        queries = [Query([], {"X": [Body(flipped(body, 12)) for body in own[:3]]}) for own in bodies]
        before = [engine.search("a", query, 10).chunk_matches for query in queries]
        settle(engine)
        assert engine.stats().graphs > 1
        assert [engine.search("a", query, 10).chunk_matches for query in queries] == before
        assert all(len(matches[0].types["X"].chunks) == 3 for matches in before)


def test_dead_neighbours_do_not_hide_a_living_one(tmp_path: Path) -> None:
    """An asset that was edited so often that its old codes fill what a graph gives is still found."""
    rng = random.Random(4)
    start = rng.randbytes(32)
    with opened(tmp_path, Options(segment_codes=512, disk_free_min_bytes=0, exact_max_codes=100, dead_share=0.9)) as engine:
        create(engine)
        add(engine, *(asset(1000 + number, unit(META, rng.randbytes(32))) for number in range(500)))
        for turn in range(120):
            body = bytearray(start)
            body[turn % 32] ^= 1 << turn % 8
            body[(turn * 7 + 1) % 32] ^= 2
            add(engine, asset(1, unit(META, bytes(body))))
        add(engine, asset(1, unit(META, flipped(start, 40))))
        add(engine, *(asset(2000 + number, unit(META, rng.randbytes(32))) for number in range(600)))
        settle(engine)
        assert engine.stats().graphs > 0
        assert finds(engine, start) == [1]
