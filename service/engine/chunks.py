"""One simprint type of one search: which stored simprints are near, which assets have them, and what that is worth.

Of an asset, each query simprint counts once, with the stored simprint most similar to it (of equals the first in byte order). Scores
follow the wire contract, section 4.4, from postings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from service.engine import kernels, scoring
from service.engine.columns import Words, to_words
from service.engine.requests import Body, Chunk, Key, Simprint, TypeMatch
from service.engine.store import Cursor, TypeRow

ROUNDING = 1 + 1e-12
"""An upper bound stays one whatever the order of its sums."""


class Code(NamedTuple):
    """A stored simprint near the query: the similarity to each query simprint that it matches, by place in the query."""

    freq: int
    body: Body
    idf: float
    near: dict[int, float]


class Best(NamedTuple):
    """The stored simprint that counts for one query simprint in one asset. The smallest is the best."""

    distance: float
    body: Body
    idf: float
    freq: int


Found = dict[int, Best]
"""What one asset matched, by place in the query."""


class TypeSearch:
    """One simprint type of one search."""

    def __init__(self, name: str, row: TypeRow, prefix: bytes, queries: list[Body], cursor: Cursor, assets: int) -> None:
        self.name = name
        self.row = row
        self.queries = queries
        self._prefix = prefix
        self._cursor = cursor
        self._assets = assets
        self._codes: list[Code] = []
        self._unmatched = [scoring.idf(assets, self._freq(body)) for body in queries]
        self.found: dict[Key, Found] = {}
        self._read = 0

    def _freq(self, body: bytes) -> int:
        return self._cursor.count() if self._cursor.set_key(self._prefix + body) else 0

    def take(self, near: Mapping[bytes, dict[int, float]]) -> None:
        """Codes that have postings, the rarest first."""
        codes = [(self._freq(body), Body(body), places) for body, places in near.items()]
        self._codes = sorted(Code(freq, body, scoring.idf(self._assets, freq), places) for freq, body, places in codes if freq)

    @property
    def next_freq(self) -> int:
        """Postings of the next code to be read; 0 when all were."""
        return self._codes[self._read].freq if self._read < len(self._codes) else 0

    def read_next(self) -> int:
        """Takes the assets of the next code; returns how many postings were read."""
        code = self._codes[self._read]
        self._read += 1
        for _, key in self._cursor.getmulti([self._prefix + code.body], dupdata=True, dupfixed_bytes=8):
            self._note(self.found.setdefault(Key(key), {}), code)
        return code.freq

    def read_part(self, most: int) -> None:
        """Takes the first assets of the next code, which stays unread."""
        code = self._codes[self._read]
        if self._cursor.set_key(self._prefix + code.body):
            for key in islice(self._cursor.iternext_dup(), most):
                self._note(self.found.setdefault(Key(key), {}), code)

    def _note(self, found: Found, code: Code) -> None:
        for place, similarity in code.near.items():
            best = Best(-similarity, code.body, code.idf, code.freq)
            if place not in found or best < found[place]:
                found[place] = best

    def ask_about(self, key: Key) -> None:
        """Whether an asset has the codes that were not read."""
        for code in self._codes[self._read :]:
            if self._cursor.set_key_dup(self._prefix + code.body, key):
                self._note(self.found.setdefault(key, {}), code)

    def complete(self, key: Key, stored: list[Simprint], queries: Words, radius: int) -> None:
        """What the asset matches, from what is stored of it: for when the codes near the query were found through graphs."""
        bodies = list(dict.fromkeys(simprint.body for simprint in stored))
        found: Found = {}
        if bodies:
            hits = kernels.range_scan(to_words(bodies, self.row.width), len(bodies), queries, radius)
            bits = self.row.width * 8
            for place, at, distance in zip(hits.query.tolist(), hits.row.tolist(), hits.distance.tolist(), strict=True):
                freq = self._freq(bodies[at])
                similarity = scoring.similarity_at(distance, bits)
                self._note(found, Code(freq, bodies[at], scoring.idf(self._assets, freq), {place: similarity}))
        self.found.pop(key, None)
        if found:
            self.found[key] = found

    def most_unread(self) -> float:
        """No asset that has none of the codes read so far can have a higher score in this type."""
        weights: dict[int, float] = {}
        highest = 0.0
        for code in self._codes[self._read :]:
            for place, similarity in code.near.items():
                weights[place] = max(weights.get(place, 0.0), code.idf)
                highest = max(highest, similarity)
        if not weights:
            return 0.0
        most = sum(weights.values())
        rest = sum(idf for place, idf in enumerate(self._unmatched) if place not in weights)
        return ROUNDING * highest * most / (most + rest) if most else 0.0

    def score(self, found: Found) -> float:
        return scoring.chunk_type_score(
            [(best.idf, -best.distance) for best in found.values()],
            [idf for place, idf in enumerate(self._unmatched) if place not in found],
        )

    def match(self, found: Found, stored: list[Simprint]) -> TypeMatch:
        """The chunks in the order of the query, each at the first place where the asset has it."""
        places: dict[Body, Simprint] = {}
        for simprint in stored:
            places.setdefault(simprint.body, simprint)
        chunks = [
            Chunk(self.queries[place], best.body, -best.distance, best.freq, places[best.body].offset, places[best.body].size)
            for place, best in sorted(found.items())
        ]
        return TypeMatch(self.score(found), len(chunks), len(self.queries), chunks)
