"""A search over simprints: query simprints → codes at or above the threshold → postings → scores → the places of the best assets.

All query simprints of a type meet a column in one pass. Of an asset, each query simprint counts once, with the stored simprint most
similar to it (of equals the first in byte order). Scores follow the wire contract, section 4.4, from postings alone; what an asset
stores of its simprints is read only for the assets in the answer.

Codes are read from the rarest to the commonest. Before a code that many assets share is read, it is asked whether an asset that was not
seen yet could still enter the answer; when none can, the rest is only asked about the assets already seen. So a text that everybody
quotes costs a question each, not a walk.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from service.engine import kernels, scoring
from service.engine.columns import ColumnName, Columns, View, to_bodies
from service.engine.errors import Unfit
from service.engine.group import find_type
from service.engine.metadata import public_metadata
from service.engine.options import Options
from service.engine.requests import Body, Chunk, ChunkMatch, Key, Simprint, TypeMatch
from service.engine.stale import StaleView
from service.engine.store import Cursor, IndexRow, Store, Transaction, TypeRow, posting_prefix, records, u32, unpack_simprints

QUESTION_POSTINGS = 256
"""A code with more postings is not read before it was asked whether it can matter."""

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

    def take(self, hits: dict[bytes, dict[int, float]]) -> None:
        """Codes that have postings, the rarest first."""
        codes = [(self._freq(body), Body(body), near) for body, near in hits.items()]
        self._codes = sorted(Code(freq, body, scoring.idf(self._assets, freq), near) for freq, body, near in codes if freq)

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


class SimprintSearch:
    """One search over simprints in one transaction."""

    def __init__(self, txn: Transaction, sequence: int, store: Store, columns: Columns, options: Options) -> None:
        self._txn = txn
        self._sequence = sequence
        self._store = store
        self._columns = columns
        self._options = options

    def run(self, index: IndexRow, wanted: dict[str, list[Body]], limit: int, *, leave_out: Key | None) -> tuple[list[ChunkMatch], bool]:
        """The best `limit` matches in order, and whether the bound on postings cut the search short."""
        with self._txn.cursor(db=self._store.postings) as cursor:
            types = [search for name, bodies in wanted.items() if (search := self._type(index, name, bodies, cursor)) is not None]
            if self._columns.dropped(index.number):
                raise StaleView
            truncated = self._gather(types, limit, leave_out)
        ranked = heapq.nsmallest(limit, ((-score, key) for key, score in _scores(types, leave_out)))
        return [self._match(index, types, key, -score) for score, key in ranked], truncated

    def _type(self, index: IndexRow, name: str, bodies: list[Body], cursor: Cursor) -> TypeSearch | None:
        row = find_type(self._txn, self._store, index.number, "s" + name)
        if row is None or not row.width:
            return None
        if row.width != len(bodies[0]):
            raise Unfit(f"simprints of type {name} have {row.width * 8} bits in this index, the query's have {len(bodies[0]) * 8}")
        search = TypeSearch(name, row, posting_prefix(index.number, row.number), bodies, cursor, index.assets)
        search.take(self._hits((index.number, row.number, row.width), bodies))
        return search

    def _hits(self, name: ColumnName, bodies: list[Body]) -> dict[bytes, dict[int, float]]:
        """Bodies at or above the threshold, and to which query simprints."""
        hits: dict[bytes, dict[int, float]] = {}
        column = self._columns.get(name)
        if column is None:
            return hits
        view = column.view()
        if view.valid_from > self._sequence:
            raise StaleView
        bits = name[2] * 8
        radius = scoring.radius(bits, self._options.match_threshold_simprints)
        if radius < 0:
            return hits
        queries = np.frombuffer(b"".join(bodies), dtype=">u8").astype(np.uint64).reshape(len(bodies), -1)
        for words, count in _parts(view):
            found = kernels.range_scan(words, count, queries, radius)
            if len(found.row):
                near = zip(to_bodies(words[:, found.row]), found.query.tolist(), found.distance.tolist(), strict=True)
                for body, place, distance in near:
                    hits.setdefault(body, {})[place] = scoring.similarity_at(distance, bits)
        return hits

    def _gather(self, types: list[TypeSearch], limit: int, leave_out: Key | None) -> bool:
        """Reads postings until no unread asset can enter the answer. True when the bound stopped it first."""
        room = self._options.max_chunk_postings
        while waiting := [search for search in types if search.next_freq]:
            search = min(waiting, key=lambda search: search.next_freq)
            if search.next_freq > QUESTION_POSTINGS and self._is_decided(types, limit, leave_out):
                return False
            if search.next_freq > room:
                search.read_part(room)
                self._ask_about_all(types)
                return True
            room -= search.read_next()
        return False

    def _is_decided(self, types: list[TypeSearch], limit: int, leave_out: Key | None) -> bool:
        """True when the answer is full of assets that are better than any unseen one; their scores are complete then."""
        most = max(search.most_unread() for search in types)
        if len(set().union(*(search.found for search in types))) < limit:
            return False
        self._ask_about_all(types)
        best = heapq.nlargest(limit, (score for _, score in _scores(types, leave_out)))
        return len(best) == limit and best[-1] > most

    def _ask_about_all(self, types: list[TypeSearch]) -> None:
        for key in set().union(*(search.found for search in types)):
            for search in types:
                search.ask_about(key)

    def _match(self, index: IndexRow, types: list[TypeSearch], key: Key, score: float) -> ChunkMatch:
        stored = self._txn.get(u32(index.number) + key, db=self._store.assets) or b""
        matches = {}
        for search in types:
            if key in search.found:
                packed = self._txn.get(u32(index.number) + key + u32(search.row.number), db=self._store.simprints) or b""
                matches[search.name] = search.match(search.found[key], unpack_simprints(packed, search.row.width))
        return ChunkMatch(index.realm, key, score, matches, public_metadata(records.decode(stored).metadata))


def _parts(view: View) -> Iterator[tuple[kernels.Words, int]]:
    for segment in view.segments:
        yield segment.words, segment.rows
    yield from view.blocks


def _scores(types: list[TypeSearch], leave_out: Key | None) -> Iterator[tuple[Key, float]]:
    """The mean over the types in which an asset matched."""
    for key in set().union(*(search.found for search in types)):
        if key != leave_out:
            scores = [search.score(search.found[key]) for search in types if key in search.found]
            yield key, sum(scores) / len(scores)
