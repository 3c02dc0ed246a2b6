"""Formulas of the wire contract: worked examples, agreement of radius and similarity, independence of order."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from service.engine import scoring
from service.engine.requests import Body

WIDTHS = (64, 128, 192, 256)


def body(text: str) -> Body:
    return Body(bytes.fromhex(text))


def test_similarity_counts_equal_bits() -> None:
    """Equal bodies are 1.0 alike, complements 0.0, and each differing bit takes one part."""
    zero, ones = Body(bytes(8)), Body(b"\xff" * 8)
    assert scoring.similarity(zero, zero) == 1.0
    assert scoring.similarity(zero, ones) == 0.0
    assert scoring.similarity(zero, body("0100000000000000")) == 1 - 1 / 64


def test_similarity_of_mixed_lengths() -> None:
    """A pair is compared over the first bytes that both have, in either order."""
    rng = random.Random(1)
    for _ in range(500):
        one, two = (Body(rng.randbytes(rng.choice(WIDTHS) // 8)) for _ in range(2))
        bits = min(len(one), len(two)) * 8
        differing = sum(bin(a ^ b).count("1") for a, b in zip(one, two, strict=False))
        assert scoring.similarity(one, two) == scoring.similarity(two, one) == 1 - differing / bits


@pytest.mark.parametrize("bits", WIDTHS)
def test_radius_is_the_border_of_similarity(bits: int) -> None:
    """A distance is within the radius exactly when its similarity is at or above the threshold, for every threshold."""
    rng = random.Random(2)
    steps = [1 - distance / bits for distance in range(bits + 1)]
    near = [math.nextafter(step, side) for step in steps for side in (0.0, 2.0)]
    for threshold in [*steps, *near, 0.0, 0.7, 0.75, 0.8, 0.9, 1.0, 1.1, *(rng.random() for _ in range(200))]:
        within = [d for d in range(bits + 1) if scoring.similarity_at(d, bits) >= threshold]
        assert scoring.radius(bits, threshold) == (within[-1] if within else -1)


def test_radius_examples() -> None:
    """The default threshold admits a quarter of the bits."""
    assert [scoring.radius(bits, 0.75) for bits in WIDTHS] == [16, 32, 48, 64]
    assert scoring.radius(64, 1.0) == 0
    assert scoring.radius(64, 1.01) == -1


@pytest.mark.parametrize(
    ("similarities", "expected"),
    [
        ([1.0, 0.875, 0.7265625], 0.8459635416666667),
        ([0.75], 0.421875),
        ([0.875], 0.669921875),
        ([1.0], 1.0),
        ([1.0, 1.0, 0.1], 1.0),
        ([0.7499], None),
        ([], None),
    ],
)
def test_score_examples(similarities: list[float], expected: float | None) -> None:
    """The worked examples of the contract; types below the threshold do not count."""
    assert scoring.score(similarities, 0.75, 4) == expected


def test_score_of_nothing_alike() -> None:
    """With threshold 0 an asset that shares no bit scores 0."""
    assert scoring.score([0.0], 0.0, 4) == 0.0


def test_score_does_not_depend_on_order() -> None:
    """The same similarities in any order give the same score to the last bit, near the exact value and never above 1."""
    rng = random.Random(3)
    for _ in range(2000):
        values = [1 - rng.randrange(bits // 4) / bits for bits in rng.choices(WIDTHS, k=rng.randint(1, 6))]
        exponent = rng.randint(1, 6)
        result = scoring.score(values, 0.75, exponent)
        assert result is not None
        exact = sum(Fraction(value) ** exponent for value in values) / sum(map(Fraction, values))
        assert result == pytest.approx(float(exact), rel=1e-14)
        assert result <= 1.0
        assert scoring.score(rng.sample(values, len(values)), 0.75, exponent) == result


def test_idf_example() -> None:
    """Rare simprints weigh more; an empty index gives no weight."""
    assert scoring.idf(8, 2) == pytest.approx(1.2993, abs=5e-5)
    assert scoring.idf(8, 0) == pytest.approx(2.1972, abs=5e-5)
    assert scoring.idf(1000, 10) == pytest.approx(math.log(1 + 1000 / 11), rel=1e-15)
    assert scoring.idf(0, 0) == 0.0


def test_chunk_type_score_example() -> None:
    """One match of two: its weighted similarity over the weight of both; one of one: its similarity."""
    matched, unmatched = scoring.idf(8, 2), scoring.idf(8, 0)
    assert scoring.chunk_type_score([(matched, 1.0)], [matched, unmatched]) == pytest.approx(0.37159, abs=5e-6)
    assert scoring.chunk_type_score([(unmatched, 0.875)], [unmatched]) == 0.875


def test_chunk_type_score_without_weight() -> None:
    """Nothing matched, or no weight at all, scores 0."""
    assert scoring.chunk_type_score([], [1.5]) == 0.0
    assert scoring.chunk_type_score([(0.0, 1.0)], [0.0]) == 0.0


def test_chunk_type_score_stays_within_1() -> None:
    """Perfect matches of any weights score exactly 1, in any order the same."""
    rng = random.Random(4)
    for _ in range(1000):
        matched = [(scoring.idf(10_000, rng.randrange(500)), rng.choice((1.0, 1.0, 0.9, 0.75))) for _ in range(rng.randint(1, 8))]
        own = [weight for weight, _ in matched]
        weights = own + [scoring.idf(10_000, 0)] * rng.randrange(3)
        result = scoring.chunk_type_score(matched, weights)
        assert 0 < result <= 1
        assert scoring.chunk_type_score(rng.sample(matched, len(matched)), rng.sample(weights, len(weights))) == result
        assert scoring.chunk_type_score([(weight, 1.0) for weight in own], own) == 1.0
