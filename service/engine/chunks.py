"""One simprint type of one search: which stored simprints are near, which assets have them, and what that is worth.

Of an asset, each query simprint counts once, with the stored simprint most similar to it (of equals the first in byte order). Scores
follow the wire contract, section 4.4, from postings alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from operator import itemgetter
from typing import NamedTuple

from service.engine import kernels, scoring
from service.engine.columns import Words, to_words
from service.engine.layout import TypeRow, simprint_bodies, simprint_places
from service.engine.requests import Body, Chunk, Key, TypeMatch
from service.engine.store import Cursor

ROUNDING = 1 + 1e-12
"""An upper bound stays one whatever the order of its sums."""


class Best(NamedTuple):
    """The stored simprint that counts for one query simprint in one asset. The smallest is the best."""

    distance: float
    body: Body
    idf: float
    freq: int


Found = dict[int, Best]
"""What one asset matched, by place in the query. Assets that matched one code and nothing else share that code's."""


class Code(NamedTuple):
    """A stored simprint near the query: what it is worth to each query simprint that it matches. `only` is its asset when it has one."""

    freq: int
    body: Body
    idf: float
    best: Found
    only: Key | None


class TypeSearch:
    """One simprint type of one search."""

    def __init__(self, name: str, row: TypeRow, prefix: bytes, queries: list[Body], cursor: Cursor, assets: int) -> None:
        self.name = name
        self.row = row
        self.queries = queries
        self._prefix = prefix
        self._cursor = cursor
        self._assets = assets
        self._idf: dict[int, float] = {}
        self._codes: list[Code] = []
        self._known: dict[tuple[Body, tuple[tuple[int, float], ...]], Code] = {}
        self._unmatched = [self._idf_of(self._freq(body)) for body in queries]
        self.found: dict[Key, Found] = {}
        self._own: set[Key] = set()
        """Assets whose `Found` no other shares: it may be changed."""
        self._read = 0

    def _freq(self, body: bytes) -> int:
        return self._cursor.count() if self._cursor.set_key(self._prefix + body) else 0

    def _idf_of(self, freq: int) -> float:
        idf = self._idf.get(freq)
        if idf is None:
            idf = self._idf[freq] = scoring.idf(self._assets, freq)
        return idf

    def take(self, near: Mapping[bytes, dict[int, float]]) -> None:
        """Codes that have postings, the rarest first."""
        self._codes = [code for body, places in near.items() if (code := self._code(Body(body), places)) is not None]
        self._codes.sort(key=itemgetter(0, 1))

    def _code(self, body: Body, places: dict[int, float]) -> Code | None:
        """None when no asset has it any more."""
        cursor = self._cursor
        if not cursor.set_key(self._prefix + body):
            return None
        freq = cursor.count()
        idf = self._idf_of(freq)
        best = {place: Best(-similarity, body, idf, freq) for place, similarity in places.items()}
        return Code(freq, body, idf, best, Key(cursor.value()) if freq == 1 else None)

    def _known_code(self, body: Body, places: dict[int, float]) -> Code:
        """The same for many assets that share a simprint."""
        name = (body, tuple(places.items()))
        code = self._known.get(name)
        if code is None:
            code = self._code(body, places)
            if code is None:
                raise AssertionError("what an asset stores has a posting")
            self._known[name] = code
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

    def rare(self, freq_max: int) -> tuple[int, int]:
        """How many unread codes have up to `freq_max` postings, and how many postings those are."""
        postings = count = 0
        for code in islice(self._codes, self._read, None):
            if code.freq > freq_max:
                break
            count += 1
            postings += code.freq
        return count, postings

    def read_next(self, most: int) -> int:
        """Takes the assets of the next code, `most` of them at most; returns how many were read."""
        code = self._codes[self._read]
        if code.freq <= most:
            self._read += 1
        if code.only is not None:
            self._note(code.only, code.best)
        elif self._cursor.set_key(self._prefix + code.body):
            for key in islice(self._cursor.iternext_dup(), most):
                self._note(Key(key), code.best)
        return min(code.freq, most)

    def _note(self, key: Key, new: Found) -> None:
        old = self.found.get(key)
        if old is None:
            self.found[key] = new
        elif old is not new:
            if key not in self._own:
                old = self.found[key] = old.copy()
                self._own.add(key)
            for place, best in new.items():
                if place not in old or best < old[place]:
                    old[place] = best

    def ask_about(self, key: Key) -> None:
        """Whether an asset has the codes that were not read."""
        for code in self._codes[self._read :]:
            if self._cursor.set_key_dup(self._prefix + code.body, key):
                self._note(key, code.best)

    def complete(self, key: Key, stored: bytes, queries: Words, radius: int) -> None:
        """What the asset matches, from what is stored of it: for when not all codes near the query are known, or read."""
        bodies = [Body(body) for body in simprint_bodies(stored, self.row.width)]
        self.found.pop(key, None)
        self._own.discard(key)
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
        weights = self._unmatched.copy()
        for place, best in found.items():
            weights[place] = best.idf
        return scoring.chunk_type_score([(best.idf, -best.distance) for best in found.values()], weights)

    def match(self, found: Found, stored: bytes) -> TypeMatch:
        """The chunks in the order of the query, each at the first place where the asset has it."""
        order = sorted(found)
        places = simprint_places(stored, self.row.width, [found[place].body for place in order])
        chunks = [
            Chunk(self.queries[place], found[place].body, -found[place].distance, found[place].freq, offset, size)
            for place, (offset, size) in zip(order, places, strict=True)
        ]
        return TypeMatch(self.score(found), len(chunks), len(self.queries), chunks)
