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


class Best(NamedTuple):
    """The stored simprint that counts for one query simprint in one asset. The smallest is the best."""

    distance: float
    body: Body
    idf: float
    freq: int


Found = dict[int, Best]
"""What one asset matched, by place in the query. Assets that matched the same share one: it is never changed."""


class Code(NamedTuple):
    """A stored simprint near the query: what it is worth to each query simprint that it matches."""

    freq: int
    body: Body
    idf: float
    best: Found


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
        self._known: dict[tuple[Body, tuple[tuple[int, float], ...]], Code] = {}
        self._unmatched = [scoring.idf(assets, self._freq(body)) for body in queries]
        self.found: dict[Key, Found] = {}
        self._read = 0

    def _freq(self, body: bytes) -> int:
        return self._cursor.count() if self._cursor.set_key(self._prefix + body) else 0

    def take(self, near: Mapping[bytes, dict[int, float]]) -> None:
        """Codes that have postings, the rarest first."""
        self._codes = [code for body, places in near.items() if (code := self._code(Body(body), places)).freq]
        self._codes.sort(key=lambda code: code[:2])

    def _code(self, body: Body, places: dict[int, float]) -> Code:
        freq = self._freq(body)
        idf = scoring.idf(self._assets, freq)
        return Code(freq, body, idf, {place: Best(-similarity, body, idf, freq) for place, similarity in places.items()})

    def _known_code(self, body: Body, places: dict[int, float]) -> Code:
        """The same for many assets that share a simprint."""
        name = (body, tuple(places.items()))
        code = self._known.get(name)
        if code is None:
            code = self._known[name] = self._code(body, places)
        return code

    @property
    def next_freq(self) -> int:
        """Postings of the next code to be read; 0 when all were."""
        return self._codes[self._read].freq if self._read < len(self._codes) else 0

    @property
    def unread(self) -> int:
        """Codes that were not read."""
        return len(self._codes) - self._read

    @property
    def unread_postings(self) -> int:
        return sum(code.freq for code in self._codes[self._read :])

    def read_next(self, most: int) -> int:
        """Takes the assets of the next code, `most` of them at most; returns how many were read."""
        code = self._codes[self._read]
        if code.freq <= most:
            self._read += 1
        if self._cursor.set_key(self._prefix + code.body):
            for key in islice(self._cursor.iternext_dup(), most):
                self._note(Key(key), code.best)
        return min(code.freq, most)

    def _note(self, key: Key, new: Found) -> None:
        old = self.found.get(key)
        if old is None:
            self.found[key] = new
        elif old is not new:
            self.found[key] = old | {place: best for place, best in new.items() if place not in old or best < old[place]}

    def ask_about(self, key: Key) -> None:
        """Whether an asset has the codes that were not read."""
        for code in self._codes[self._read :]:
            if self._cursor.set_key_dup(self._prefix + code.body, key):
                self._note(key, code.best)

    def complete(self, key: Key, stored: list[Simprint], queries: Words, radius: int) -> None:
        """What the asset matches, from what is stored of it: for when not all codes near the query are known, or read."""
        bodies = list(dict.fromkeys(simprint.body for simprint in stored))
        self.found.pop(key, None)
        if not bodies:
            return
        places: dict[int, dict[int, float]] = {}
        hits = kernels.range_scan(to_words(bodies, self.row.width), len(bodies), queries, radius)
        for place, at, distance in zip(hits.query.tolist(), hits.row.tolist(), hits.distance.tolist(), strict=True):
            places.setdefault(at, {})[place] = scoring.similarity_at(distance, self.row.width * 8)
        for at, near in places.items():
            self._note(key, self._known_code(bodies[at], near).best)

    def most_unread(self) -> float:
        """No asset that has none of the codes read so far can have a higher score in this type."""
        weights: dict[int, float] = {}
        highest = 0.0
        for code in self._codes[self._read :]:
            for place, best in code.best.items():
                weights[place] = max(weights.get(place, 0.0), code.idf)
                highest = max(highest, -best.distance)
        if not weights:
            return 0.0
        most = sum(weights.values())
        rest = sum(idf for place, idf in enumerate(self._unmatched) if place not in weights)
        return ROUNDING * highest * most / (most + rest) if most else 0.0

    def scores(self) -> dict[Key, float]:
        """Of all assets found. Assets that share what they matched share the sum."""
        by_found: dict[int, float] = {}
        scores = {}
        for key, found in self.found.items():
            score = by_found.get(id(found))
            if score is None:
                score = by_found[id(found)] = self.score(found)
            scores[key] = score
        return scores

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
