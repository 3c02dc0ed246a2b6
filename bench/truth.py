"""The right answers by brute force: numpy over all assets, scored by the formula of the wire contract."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from bench.data import SIMILAR_TYPES, Assets, Bytes, Queries

THRESHOLD = 0.75
EXPONENT = 4
TIE = 1e-9
SCORE_ERROR_MAX = 1e-6  # the reference computes distances in 32 bits


class Quality(msgspec.Struct, frozen=True):
    """`recall` counts a returned asset when its true score is at least the k-th best; `wrong_scores` are shares of the returned assets."""

    recall: float
    queries: int
    wrong_scores: float


class Truth:
    """True scores of all assets for one query after the other. Holds the words of all bodies."""

    def __init__(self, assets: Assets) -> None:
        self.words = [_words(body) for body in assets.bodies]
        self.bits = assets.bodies[0].shape[1] * 8

    def scores(self, bodies: list[Bytes], row: int) -> NDArray[np.float64]:
        """The score of every asset for the query in `row`; 0 for an asset that does not match."""
        above, below = np.zeros(len(self.words[0])), np.zeros(len(self.words[0]))
        for number, words in enumerate(self.words):
            differing = np.bitwise_count(words ^ _words(bodies[number][row : row + 1])).sum(axis=1, dtype=np.int64)
            similarity = 1 - differing / self.bits
            matches = similarity >= THRESHOLD if number < SIMILAR_TYPES else differing == 0
            above += np.where(matches, similarity**EXPONENT, 0)
            below += np.where(matches, similarity, 0)
        return np.divide(above, below, out=above, where=below > 0)


def judge(truth: Truth, assets: Assets, queries: Queries, answers: list[list[tuple[int, float]]], limit: int) -> Quality:
    """`answers` has, for each query, the asset keys and scores that the server gave."""
    rows = {int(key): row for row, key in enumerate(assets.keys)}
    found, wrong, given = [], 0, 0
    for number, answer in enumerate(answers):
        scores = truth.scores(queries.bodies, number)
        best = min(limit, int(np.count_nonzero(scores)))
        if best == 0:
            continue
        bar = np.partition(scores, len(scores) - best)[len(scores) - best] - TIE
        true_scores = [float(scores[rows[key]]) for key in {key for key, _ in answer}]
        found.append(min(best, sum(score >= bar for score in true_scores)) / best)
        wrong += sum(abs(score - float(scores[rows[key]])) > SCORE_ERROR_MAX for key, score in answer)
        given += len(answer)
    return Quality(float(np.mean(found)), len(found), wrong / max(1, given))


def _words(body: Bytes) -> NDArray[np.uint64]:
    return np.ascontiguousarray(body).view(np.uint64)
