"""Search over simprints: places, scores by the contract's formula, frequencies, bounds; held against brute force."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import msgspec
import pytest

from service.engine import simprints as search
from service.engine.engine import Engine
from service.engine.errors import Unfit
from service.engine.options import Options
from service.engine.requests import Asset, Body, Chunk, DeleteAsset, Key, Query, SearchAnswer, Simprint
from tests.engine.building import SMALL, add, asset, create, do, flipped, key, opened, settle, simprints_of

WIDTH = 16
ONE, OTHER = Body(bytes(WIDTH)), Body(bytes([255] * WIDTH))


def ask(engine: Engine, limit: int = 10, **simprints: list[Body]) -> SearchAnswer:
    return engine.search("a", Query([], simprints), limit)


def numbers(answer: SearchAnswer) -> list[int]:
    return [int.from_bytes(match.key, "big") for match in answer.chunk_matches]


def test_chunk_is_found_with_its_place(tmp_path: Path) -> None:
    """Each query simprint gets the best stored one, in the order of the query, with its frequency, offset and size."""
    with opened(tmp_path) as engine:
        create(engine)
        add(
            engine,
            asset(1, simprints={"X": [Simprint(ONE, 10, 20), Simprint(OTHER, 30, 40)]}),
            asset(2, simprints={"X": [Simprint(ONE, 50, 60)]}),
        )
        near = Body(flipped(OTHER, 8))
        (first, second) = ask(engine, X=[near, ONE]).chunk_matches
        assert first.types["X"].chunks == [Chunk(near, OTHER, 1 - 8 / 128, 1, 30, 40), Chunk(ONE, ONE, 1.0, 2, 10, 20)]
        assert (first.types["X"].matches, first.types["X"].queried) == (2, 2)
        assert (second.key, second.types["X"].matches) == (key(2), 1)


def test_score_follows_the_contracts_example(tmp_path: Path) -> None:
    """Eight assets, a match of frequency 2, one query simprint unmatched; another type with 0.875; the mean of both."""
    with opened(tmp_path) as engine:
        create(engine)
        add(
            engine,
            asset(1, simprints={"X": [Simprint(ONE, 0, 1)], "Y": [Simprint(ONE, 0, 1)]}),
            asset(2, simprints={"X": [Simprint(ONE, 0, 1)]}),
            *(asset(number) for number in range(3, 9)),
        )
        best = ask(engine, X=[ONE, OTHER], Y=[Body(flipped(ONE, 16))]).chunk_matches[0]
        assert best.types["X"].score == pytest.approx(0.37159, abs=1e-5)
        assert best.types["Y"].score == pytest.approx(0.875, abs=1e-12)
        assert best.score == pytest.approx(0.62330, abs=1e-5)


def test_search_by_id_uses_the_assets_own_simprints_and_leaves_it_out(tmp_path: Path) -> None:
    """The answer says what was searched for."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, *(asset(number, simprints={"X": [Simprint(ONE, 0, 1), Simprint(ONE, 5, 1)]}) for number in range(3)))
        answer = engine.search("a", Query([], {}, 0, key(1)), 10)
        assert numbers(answer) == [0, 2]
        assert answer.simprints == {"X": [ONE]}


def test_unknown_type_finds_nothing_and_another_width_is_refused(tmp_path: Path) -> None:
    """The message names both widths."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, simprints={"X": [Simprint(ONE, 0, 1)]}))
        assert ask(engine, Z=[ONE]).chunk_matches == []
        with pytest.raises(Unfit, match="simprints of type X have 128 bits in this index, the query's have 64"):
            ask(engine, X=[Body(bytes(8))])


def test_updated_and_deleted_simprints_are_gone(tmp_path: Path) -> None:
    """Nothing of the old content stays findable."""
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, asset(1, simprints={"X": [Simprint(ONE, 0, 1)]}), asset(2, simprints={"X": [Simprint(ONE, 0, 1)]}))
        add(engine, asset(1, simprints={"X": [Simprint(OTHER, 0, 1)]}))
        do(engine, DeleteAsset("a", 0, key(2)))
        assert numbers(ask(engine, X=[ONE])) == []
        assert numbers(ask(engine, X=[OTHER])) == [1]


def corpus(rng: random.Random, assets: int) -> list[Asset]:
    """Assets that share some simprints, are near others in some, and all quote one."""
    shared = [Body(rng.randbytes(WIDTH)) for _ in range(30)]
    result = []
    for number in range(assets):
        bodies = [Body(flipped(rng.choice(shared), rng.choice((0, 0, 3, 20, 40)))) for _ in range(3)] + [Body(rng.randbytes(WIDTH)), ONE]
        result.append(asset(number, simprints={"X": [Simprint(body, place * 10, 10) for place, body in enumerate(bodies)]}))
    return result


def brute_force(assets: list[Asset], queries: list[Body], limit: int) -> list[tuple[Key, float, list[tuple[Body, Body, float, int, int]]]]:
    """The contract's formulas, asset by asset."""
    stored = {item.key: simprints_of(item) for item in assets}
    freq: dict[Body, int] = {}
    for simprints in stored.values():
        for body in {simprint.body for simprint in simprints}:
            freq[body] = freq.get(body, 0) + 1

    def idf(body: Body) -> float:
        return math.log(1 + len(assets) / (1 + freq.get(body, 0)))

    def similarity(one: Body, two: Body) -> float:
        return 1 - (int.from_bytes(one, "big") ^ int.from_bytes(two, "big")).bit_count() / (8 * WIDTH)

    results = []
    for asset_key, simprints in stored.items():
        chunks = []
        numerator = denominator = 0.0
        for query in queries:
            value, body = min((-similarity(query, simprint.body), simprint.body) for simprint in simprints)
            if -value < 0.75:
                denominator += idf(query)
                continue
            offset = next(simprint.offset for simprint in simprints if simprint.body == body)
            chunks.append((query, body, -value, freq[body], offset))
            numerator += idf(body) * -value
            denominator += idf(body)
        if chunks:
            results.append((asset_key, numerator / denominator, chunks))
    return sorted(results, key=lambda result: (-round(result[1], 12), result[0]))[:limit]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_answers_equal_brute_force(tmp_path: Path, seed: int, limit: int) -> None:
    """Random queries with and without the text that every asset quotes, with the tail sealed in between."""
    rng = random.Random(seed)
    assets = corpus(rng, 600)
    with opened(tmp_path) as engine:
        create(engine)
        add(engine, *assets[:400])
        settle(engine)
        add(engine, *assets[400:])
        for _ in range(8):
            picked = [rng.choice(simprints_of(rng.choice(assets))).body for _ in range(rng.randrange(1, 6))]
            queries = [Body(flipped(body, rng.choice((0, 2, 10)))) for body in picked]
            answer = ask(engine, limit=limit, X=queries)
            expected = brute_force(assets, queries, limit)
            assert [match.key for match in answer.chunk_matches] == [found[0] for found in expected]
            for match, (_, score, chunks) in zip(answer.chunk_matches, expected, strict=True):
                assert match.score == pytest.approx(score, abs=1e-9)
                assert [(c.query, c.match, c.score, c.freq, c.offset) for c in match.types["X"].chunks] == chunks
            assert not answer.truncated


def test_bound_on_postings_cuts_the_search_and_says_so(tmp_path: Path) -> None:
    """The rarest are read first, so the asset that shares more than the common text stays on top, with its whole score."""
    with opened(tmp_path, msgspec.structs.replace(SMALL, max_chunk_postings=50)) as engine:
        create(engine)
        add(engine, *(asset(number, simprints={"X": [Simprint(ONE, 0, 1)]}) for number in range(400)))
        add(engine, asset(999, simprints={"X": [Simprint(ONE, 0, 1), Simprint(OTHER, 0, 1)]}))
        answer = ask(engine, limit=1000, X=[ONE, OTHER])
        assert answer.truncated
        assert numbers(answer) == [999, *range(49)]
        assert answer.chunk_matches[0].types["X"].matches == 2


def test_common_text_is_not_read_when_the_answer_is_decided(tmp_path: Path) -> None:
    """A full answer of better assets makes the rest a question about those few; the bound is never reached."""
    with opened(tmp_path, Options(disk_free_min_bytes=0, max_chunk_postings=100)) as engine:
        create(engine)
        add(engine, *(asset(number, simprints={"X": [Simprint(ONE, 0, 1)]}) for number in range(400)))
        add(engine, *(asset(1000 + number, simprints={"X": [Simprint(ONE, 0, 1), Simprint(OTHER, 0, 1)]}) for number in range(5)))
        answer = ask(engine, limit=5, X=[ONE, OTHER])
        assert not answer.truncated
        assert numbers(answer) == [1000, 1001, 1002, 1003, 1004]
        assert {match.score for match in answer.chunk_matches} == {1.0}


def test_exact_search_takes_identical_simprints_only(tmp_path: Path) -> None:
    """A near one is no match, however near."""
    with opened(tmp_path) as engine:
        create(engine)
        near = Body(flipped(ONE, 1))
        add(engine, asset(1, simprints={"X": [Simprint(ONE, 0, 1)]}), asset(2, simprints={"X": [Simprint(near, 0, 1)]}))
        assert numbers(ask(engine, X=[ONE])) == [1, 2]
        assert numbers(engine.search("a", Query([], {"X": [ONE]}, exact=True), 10)) == [1]


@pytest.mark.parametrize("bound", [1_000_000, 20_000])
def test_texts_that_everybody_quotes_cost_no_more_than_reading_them(tmp_path: Path, bound: int) -> None:
    """A query of nothing but boilerplate reads what it has to, once, below and at the bound."""
    rng = random.Random(5)
    common = [Body(rng.randbytes(WIDTH)) for _ in range(50)]
    with opened(tmp_path, Options(disk_free_min_bytes=0, max_chunk_postings=bound)) as engine:
        create(engine)
        for start in range(0, 4_000, 500):
            add(
                engine,
                *(asset(n, simprints={"X": [Simprint(body, 0, 1) for body in rng.sample(common, 12)]}) for n in range(start, start + 500)),
            )
        started = time.process_time()
        answer = ask(engine, X=common)
        assert time.process_time() - started < 2.0
        assert answer.truncated == (bound < 48_000)
        assert len(answer.chunk_matches) == 10


def test_hits_are_bounded_and_the_answer_says_so(tmp_path: Path) -> None:
    """Many query simprints near very many codes hold a bounded number of pairs; the most similar stay."""
    rng = random.Random(6)
    with opened(tmp_path, Options(disk_free_min_bytes=0)) as engine:
        create(engine)
        center = rng.getrandbits(128)

        def near() -> Body:
            return Body((center ^ (1 << rng.randrange(128)) ^ (1 << rng.randrange(128))).to_bytes(WIDTH, "big"))

        add(engine, *(asset(n, simprints={"X": [Simprint(near(), 0, 1) for _ in range(10)]}) for n in range(800)))
        exact = center.to_bytes(WIDTH, "big")
        add(engine, asset(5_000, simprints={"X": [Simprint(Body(exact), 0, 1)]}))
        queries = [Body(exact), *(near() for _ in range(99))]
        answer = ask(engine, limit=1000, X=queries)
        assert answer.truncated
        assert key(5_000) in {match.key for match in answer.chunk_matches}


@pytest.mark.parametrize("pairs", [200, 1_000_000])
def test_what_is_cut_does_not_depend_on_where_codes_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    """Of pairs that are equally near the first in byte order stay, in one segment or in many, and the answer says that some did not."""
    rng = random.Random(8)
    center = rng.getrandbits(128)
    bodies = [Body((center ^ (1 << place)).to_bytes(WIDTH, "big")) for place in range(128)]
    queries = [Body((center ^ (1 << place) ^ (1 << (place + 1) % 128)).to_bytes(WIDTH, "big")) for place in range(20)]
    monkeypatch.setattr(search, "HITS_MAX", 500)
    monkeypatch.setattr(search, "SCANNED_PAIRS_MAX", pairs)
    answers = []
    for number, (segment_codes, order) in enumerate([(1_000, 1), (16, 1), (16, -1)]):
        with opened(tmp_path / str(number), Options(segment_codes=segment_codes, disk_free_min_bytes=0, processors=2)) as engine:
            create(engine)
            for place, body in list(enumerate(bodies))[::order]:
                add(engine, asset(place, simprints={"X": [Simprint(body, 0, 1)]}))
            while engine.upkeep_step():
                pass
            answers.append(ask(engine, limit=1_000, X=queries))
    assert answers[0].truncated
    assert len(answers[0].chunk_matches) > 10
    assert answers[1:] == answers[:1] * 2


def test_types_have_no_limit(tmp_path: Path) -> None:
    """A hundred types, each with its own width, in one asset."""
    widths = (8, 16, 24, 32)
    with opened(tmp_path) as engine:
        create(engine)
        types = {f"T{n}": [Simprint(Body(bytes([n]) * widths[n % 4]), n, 1)] for n in range(100)}
        add(engine, asset(1, simprints=types))
        answer = engine.search("a", Query([], {name: [simprints[0].body] for name, simprints in types.items()}), 10)
        assert {name: match.chunks[0].offset for name, match in answer.chunk_matches[0].types.items()} == {f"T{n}": n for n in range(100)}


def test_simprint_that_fifty_thousand_assets_share(tmp_path: Path) -> None:
    """Its frequency is not capped, the order is that of the ISCC-IDs, and the answer comes quickly."""
    with opened(tmp_path, Options(disk_free_min_bytes=0)) as engine:
        create(engine)
        for start in range(0, 50_000, 5_000):
            add(engine, *(asset(n, simprints={"X": [Simprint(ONE, n, 1)]}) for n in range(start, start + 5_000)))
        started = time.process_time()
        answer = ask(engine, X=[ONE])
        assert time.process_time() - started < 1.0
        assert numbers(answer) == list(range(10))
        assert [match.types["X"].chunks[0].freq for match in answer.chunk_matches] == [50_000] * 10
        assert not answer.truncated


def test_asset_with_a_thousand_simprints_costs_the_same_in_a_large_index(tmp_path: Path) -> None:
    """Updating and deleting it takes LMDB about as many pages, however many others there are; nothing of it stays findable."""
    rng = random.Random(7)

    def large(number: int) -> Asset:
        return asset(number, simprints={"X": [Simprint(Body(rng.randbytes(WIDTH)), n, 1) for n in range(1_000)]})

    def cost(engine: Engine) -> float:
        before, after = large(1_000_000), large(1_000_000)
        add(engine, before)
        started = time.process_time()
        add(engine, after)
        do(engine, DeleteAsset("a", 0, key(1_000_000)))
        spent = time.process_time() - started
        for gone in (before, after):
            query = Query([], {"X": [simprint.body for simprint in simprints_of(gone)]}, exact=True)
            assert engine.search("a", query, 10).chunk_matches == []
        return spent

    with opened(tmp_path, Options(disk_free_min_bytes=0)) as engine:
        create(engine)
        small = min(cost(engine) for _ in range(5))
        for start in range(0, 200, 10):
            add(engine, *(large(n) for n in range(start, start + 10)))
        assert min(cost(engine) for _ in range(5)) < 5 * small
