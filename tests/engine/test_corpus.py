"""The test data is what it says: valid ISCCs, near-duplicates, the same for the same seed."""

from __future__ import annotations

import random

import iscc_core as ic  # type: ignore[import-untyped]  # it has no type hints
import numpy as np
import pytest

from service.engine import codes, scoring
from service.engine.requests import Key
from tests import corpus
from tests.corpus import Corpus


def test_every_iscc_is_valid() -> None:
    """All IDs, codes and units are accepted, the code is that of the units, and iscc-core agrees on a sample."""
    data = Corpus(1, clusters=20, per_cluster=5, unit_bits=(64, 128, 192, 256), media=range(5), with_codes=True, realm=1)
    assets = data.assets()
    assert len(assets) == data.size == 100
    for row, asset in enumerate(assets):
        units = [codes.parse_unit(text) for text in asset["units"]]
        assert [codes.unit_body(unit) for unit in units] == [data.body(row, place) for place in range(4)]
        assert codes.compose(units) == codes.parse_code(asset["iscc_code"])
        assert codes.parse_id(asset["iscc_id"])[0] == 1
        assert ic.iscc_validate(asset["iscc_code"])
        assert ic.gen_iscc_code_v0(asset["units"], wide=True)["iscc"] == asset["iscc_code"]
    assert {codes.unit_type(codes.parse_unit(asset["units"][1])) for asset in assets} == {
        f"CONTENT_{medium}_V0" for medium in ("TEXT", "IMAGE", "AUDIO", "VIDEO", "MIXED")
    }


@pytest.mark.parametrize("bits", [64, 256])
def test_members_are_near_duplicates(bits: int) -> None:
    """Members of a cluster are within twice the flips of each other, members of others and all instances are not."""
    data = Corpus(2, clusters=10, per_cluster=4, unit_bits=bits, flips=8)
    bodies = [[codes.unit_body(codes.parse_unit(text)) for text in asset["units"]] for asset in data.assets()]
    for one in range(data.size):
        for two in range(one):
            found = [scoring.similarity(a, b) for a, b in zip(bodies[one], bodies[two], strict=True)]
            assert (one // 4 == two // 4) == (min(found[:3]) >= 0.75)
            assert found[3] < 0.85


def test_queries_are_near_their_members() -> None:
    """Every query has the four unit types and one asset at most `flips` bits in 64 away from all but its INSTANCE."""
    data = Corpus(3, clusters=50, per_cluster=2, unit_bits=(64, 128))
    assets = [[codes.unit_body(codes.parse_unit(text)) for text in asset["units"]] for asset in data.assets()]
    for query in data.queries(1, 20, flips=4):
        units = [codes.unit_body(codes.parse_unit(text)) for text in query["units"]]
        nearest = max(min(scoring.similarity(a, b) for a, b in zip(units[:3], asset[:3], strict=True)) for asset in assets)
        assert nearest >= 1 - 4 / 64


def test_the_same_seed_gives_the_same_data() -> None:
    """Assets, batches and queries follow from the arguments alone."""
    one, two = (Corpus(4, clusters=30, per_cluster=3, unit_bits=(64, 256), simprints_per_asset=2) for _ in range(2))
    assert one.assets() == two.assets() == [asset for batch in one.batches(7) for asset in batch]
    assert one.assets(10, 20) == one.assets()[10:20]
    assert one.queries(5, 10) == two.queries(5, 10) != one.queries(6, 10)
    assert one.assets()[0]["units"] != Corpus(5, clusters=30, per_cluster=3).assets()[0]["units"]


def test_ids_ascend() -> None:
    """ISCC-IDs of ascending numbers are distinct and ascend."""
    ids = [codes.parse_id(corpus.iscc_id(number)) for number in range(200)]
    assert ids == sorted(set(ids))
    assert codes.parse_id(corpus.iscc_id(0, realm=1)) == (1, ids[0][1])
    assert (
        corpus.iscc_id(5) == Corpus(1, clusters=1, per_cluster=1, first_id=5).assets()[0]["iscc_id"] == codes.format_id(0, Key(ids[5][1]))
    )


def test_units_and_texts() -> None:
    """A unit of any length, made one by one or by the thousand, is the text that iscc-core writes."""
    rng = random.Random(6)
    for size in (8, 16, 24, 32):
        bodies = [rng.randbytes(size) for _ in range(50)]
        expected = ["ISCC:" + ic.encode_component(2, 3, 0, size * 8, body) for body in bodies]
        raws = np.frombuffer(b"".join(bytes([0x23, size // 4 - 1]) + body for body in bodies), np.uint8).reshape(50, -1)
        assert corpus.base32_texts(raws) == [corpus.unit(2, 3, body) for body in bodies] == expected


def test_simprints_are_valid() -> None:
    """Simprints have the width asked for, and near-duplicates have near simprints."""
    made = corpus.simprints(np.random.default_rng(7), 5, 256)
    assert [len(codes.parse_simprint(one["simprint"])) for one in made] == [32] * 5
    first, second = Corpus(8, clusters=1, per_cluster=2, simprints_per_asset=3, flips=4).assets()
    for one, two in zip(first["simprints"]["CONTENT_TEXT_V0"], second["simprints"]["CONTENT_TEXT_V0"], strict=True):
        assert scoring.similarity(codes.parse_simprint(one["simprint"]), codes.parse_simprint(two["simprint"])) >= 0.875


def test_shared_simprints_and_own_ones() -> None:
    """Two members of a cluster are near at the places that both share, about a quarter when each shares half, and nowhere else."""
    first, second = Corpus(9, clusters=1, per_cluster=2, simprints_per_asset=400, flips=6, simprints_shared=0.5).simprints
    near = np.bitwise_count(first ^ second).sum(axis=1) <= 24
    assert 60 <= near.sum() <= 140
    assert np.bitwise_count(first ^ second).sum(axis=1)[~near].min() > 32


def test_simprint_queries_are_runs_of_one_asset() -> None:
    """Every query has as many simprints as asked for, at most `flips` bits in 64 away from those of one asset, in their order."""
    data = Corpus(10, clusters=10, per_cluster=2, simprints_per_asset=12, simprints_shared=0.5)
    runs = [data.simprints[:, start : start + 5] for start in range(8)]
    for query in data.simprint_queries(1, 20, 5, flips=4):
        texts = query["simprints"]["CONTENT_TEXT_V0"]
        bodies = np.frombuffer(b"".join(codes.parse_simprint(text) for text in texts), np.uint8).reshape(5, -1)
        assert min(np.bitwise_count(run ^ bodies).sum(axis=2).max(axis=1).min() for run in runs) <= 8
