"""The right answers by brute force: numpy over all assets, scored by the formula of the wire contract."""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.corpus import UNITS, Asset, Corpus, iscc_ids

THRESHOLD = 0.75
EXPONENT = 4
TIE = 1e-9
SCORE_ERROR_MAX = 1e-6  # the reference computes distances in 32 bits

Match = tuple[str, float]
"""ISCC-ID and score, as a server gave them."""


class Quality(msgspec.Struct, frozen=True):
    """`recall` counts a returned asset when its true score is at least the k-th best; `wrong_scores` are shares of the returned assets."""

    recall: float
    queries: int
    wrong_scores: float


class Truth:
    """True scores of all assets for one query after the other. Holds the words of all bodies."""

    def __init__(self, corpus: Corpus) -> None:
        self.words = [np.ascontiguousarray(corpus.bodies[:, place]).view(np.uint64) for place in range(len(UNITS))]
        self.rows = {iscc_id: row for row, iscc_id in enumerate(iscc_ids(np.arange(corpus.size), corpus.realm))}

    def scores(self, query: Asset) -> NDArray[np.float64]:
        """The score of every asset; 0 for one that does not match."""
        above, below = np.zeros(len(self.rows)), np.zeros(len(self.rows))
        for unit, words in zip(query["units"], self.words, strict=True):
            differing = np.bitwise_count(words ^ _words(unit)).sum(axis=1, dtype=np.int64)
            similarity = 1 - differing / (words.shape[1] * 64)
            matches = differing == 0 if words is self.words[-1] else similarity >= THRESHOLD  # the last is INSTANCE
            above += np.where(matches, similarity**EXPONENT, 0)
            below += np.where(matches, similarity, 0)
        return np.divide(above, below, out=above, where=below > 0)


def judge(rows: dict[str, int], true_scores_of: Iterable[NDArray[np.float64]], answers: list[list[Match]], limit: int) -> Quality:
    """The first `limit` matches of each answer. `rows` has the number of each ISCC-ID in the true scores of a query."""
    found, wrong, given = [], 0, 0
    for scores, whole in zip(true_scores_of, answers, strict=True):
        answer = whole[:limit]
        best = min(limit, int(np.count_nonzero(scores)))
        if best == 0:
            continue
        bar = np.partition(scores, len(scores) - best)[len(scores) - best] - TIE
        true_scores = {iscc_id: float(scores[rows[iscc_id]]) for iscc_id, _ in answer}
        found.append(min(best, sum(score >= bar for score in true_scores.values())) / best)
        wrong += sum(abs(score - true_scores[iscc_id]) > SCORE_ERROR_MAX for iscc_id, score in answer)
        given += len(answer)
    return Quality(float(np.mean(found)), len(found), wrong / max(1, given))


def _words(unit: str) -> NDArray[np.uint64]:
    text = unit.removeprefix("ISCC:")
    return np.frombuffer(base64.b32decode(text + "=" * (-len(text) % 8))[2:], np.uint64)
