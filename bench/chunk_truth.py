"""The right scores of simprint searches by brute force: numpy over all simprints, by the formula of the wire contract, section 4.4."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import NDArray

from bench.truth import THRESHOLD
from tests.corpus import SIMPRINT_TYPE, Asset, Corpus, iscc_ids

Words = NDArray[np.uint64]
Numbers = NDArray[np.int64]


class ChunkTruth:
    """True scores of all assets for one query after the other. Holds the words of all simprints, and what each weighs."""

    def __init__(self, corpus: Corpus) -> None:
        self.assets, self.places, size = corpus.simprints.shape
        self.rows = {iscc_id: row for row, iscc_id in enumerate(iscc_ids(np.arange(corpus.size), corpus.realm))}
        stored = corpus.simprints.reshape(-1, size)
        self._bits = size * 8
        self._columns = np.ascontiguousarray(stored.view(np.uint64).T)
        self._idf = np.log(1 + self.assets / (1 + _frequencies(stored, self.places)))

    def scores(self, query: Asset) -> NDArray[np.float64]:
        """The score of every asset; 0 for one that does not match."""
        above, below = np.zeros(self.assets), np.zeros(self.assets)
        for text in query["simprints"][SIMPRINT_TYPE]:
            assets, distances, idf, own_idf = self._best(_words(text))
            below += own_idf
            below[assets] += idf - own_idf
            above[assets] += idf * (1 - distances / self._bits)
        return np.divide(above, below, out=above, where=above > 0)

    def _best(self, query: Words) -> tuple[Numbers, Numbers, NDArray[np.float64], float]:
        """The assets that match, with the distance and the idf of the simprint that counts; and the idf of the query simprint itself."""
        distance = np.zeros(self._columns.shape[1], np.uint16)
        for column, word in zip(self._columns, query, strict=True):
            distance += np.bitwise_count(column ^ word)
        near = np.flatnonzero(1 - distance / self._bits >= THRESHOLD)
        near = near[np.lexsort((distance[near], near // self.places))]  # of the nearest of an asset the first
        assets, first = np.unique(near // self.places, return_index=True)
        same = near[distance[near] == 0]
        own_idf = float(self._idf[same[0]]) if len(same) else float(np.log(1 + self.assets))
        return assets, distance[near[first]].astype(np.int64), self._idf[near[first]], own_idf


def _frequencies(stored: NDArray[np.uint8], places: int) -> Numbers:
    """For each simprint, how many assets have it."""
    _, codes = np.unique(stored.view(f"V{stored.shape[1]}").ravel(), return_inverse=True)
    ordered = np.sort(codes.reshape(-1, places), axis=1)
    fresh = np.ones(ordered.shape, bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    frequencies: Numbers = np.bincount(ordered[fresh])[codes]
    return frequencies


def _words(simprint: str) -> Words:
    return np.frombuffer(base64.urlsafe_b64decode(simprint + "=" * (-len(simprint) % 4)), np.uint64)
