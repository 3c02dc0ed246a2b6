"""From bodies to similarities, from similarities to scores: the formulas of the wire contract in one place.

All sums are correctly rounded (`fsum`), so a score does not depend on the order in which an asset's hits were found, and assets with
the same similarities tie. No score exceeds 1: each term of a numerator is at most the same term of its denominator, and rounding keeps
that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import fsum, log1p

from service.engine.requests import Body


def similarity(query: Body, stored: Body) -> float:
    """NPHD: the share of equal bits among those that both bodies have, counted from the front."""
    size = min(len(query), len(stored))
    differing = int.from_bytes(query[:size], "big") ^ int.from_bytes(stored[:size], "big")
    return similarity_at(differing.bit_count(), size * 8)


def similarity_at(distance: int, bits: int) -> float:
    return 1.0 - distance / bits


def radius(bits: int, threshold: float) -> int:
    """The largest distance whose similarity is at or above the threshold in this arithmetic; -1 when there is none."""
    distance = min(bits, max(0, int((1.0 - threshold) * bits) + 1))
    while distance >= 0 and similarity_at(distance, bits) < threshold:
        distance -= 1
    return distance


def score(similarities: Iterable[float], threshold: float, exponent: int) -> float | None:
    """The score of an asset from its best similarity for each unit type; None when none reaches the threshold."""
    reached = [value for value in similarities if value >= threshold]
    if not reached:
        return None
    total = fsum(reached)
    return fsum([value**exponent for value in reached]) / total if total else 0.0


def idf(assets: int, frequency: int) -> float:
    """The weight of a simprint that `frequency` of the index's assets have."""
    return log1p(assets / (1 + frequency))


def mean(scores: Sequence[float]) -> float:
    """The score of an asset over the simprint types in which it matched."""
    return fsum(scores) / len(scores)


def chunk_type_score(matched: Sequence[tuple[float, float]], weights: Iterable[float]) -> float:
    """The score of an asset in one simprint type: `matched` has the idf of the stored simprint and the similarity of each match, `weights`
    these idfs and those of the query simprints without a match."""
    weight = fsum(weights)
    return fsum([weight * value for weight, value in matched]) / weight if weight else 0.0
