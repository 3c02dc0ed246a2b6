"""A search over simprints: query simprints → codes at or above the threshold → postings → scores → the places of the best assets.

All query simprints of a type meet a column in one pass. What an asset stores of its simprints is read only for the assets in the
answer; and for every candidate when graphs took part, because a graph may have missed some of what an asset matches.

Codes are read from the rarest to the commonest. Before a code that many assets share is read, it is asked whether an asset that was not
seen yet could still enter the answer; when none can, the rest is only asked about the assets already seen. So a text that everybody
quotes costs a question each, not a walk.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from service.engine import kernels, scoring
from service.engine.chunks import TypeSearch
from service.engine.columns import WORD_BYTES, ColumnName, Columns, Segment, Words, run_of, to_bodies
from service.engine.errors import Unfit
from service.engine.group import find_type
from service.engine.metadata import public_metadata
from service.engine.options import Options
from service.engine.requests import Body, ChunkMatch, Key, Simprint
from service.engine.stale import StaleView
from service.engine.store import Cursor, IndexRow, Store, Transaction, TypeRow, posting_prefix, records, u32, unpack_simprints
from service.engine.tiers import Tiers

QUESTION_POSTINGS = 256
"""A code with more postings is not read before it was asked whether it can matter."""

Near = defaultdict[bytes, dict[int, float]]
"""Stored bodies at or above the threshold, with the similarity to each query simprint by its place in the query."""


class SimprintSearch:
    """One search over simprints in one transaction."""

    def __init__(self, txn: Transaction, sequence: int, store: Store, columns: Columns, tiers: Tiers, options: Options) -> None:
        self._txn = txn
        self._sequence = sequence
        self._store = store
        self._columns = columns
        self._tiers = tiers
        self._options = options
        self._approximate = False

    def run(
        self, index: IndexRow, wanted: dict[str, list[Body]], limit: int, *, leave_out: Key | None, exact: bool
    ) -> tuple[list[ChunkMatch], bool]:
        """The best `limit` matches in order, and whether the bound on postings cut the search short. `exact`: identical simprints only."""
        with self._txn.cursor(db=self._store.postings) as cursor:
            types = [
                search for name, bodies in wanted.items() if (search := self._type(index, name, bodies, cursor, exact=exact)) is not None
            ]
            if self._columns.dropped(index.number):
                raise StaleView
            truncated = self._gather(types, limit, leave_out)
            if self._approximate:
                self._complete(index, types)
        ranked = heapq.nsmallest(limit, ((-score, key) for key, score in _scores(types, leave_out)))
        return [self._match(index, types, key, -score) for score, key in ranked], truncated

    def _type(self, index: IndexRow, name: str, bodies: list[Body], cursor: Cursor, *, exact: bool) -> TypeSearch | None:
        row = find_type(self._txn, self._store, index.number, "s" + name)
        if row is None or not row.width:
            return None
        if row.width != len(bodies[0]):
            raise Unfit(f"simprints of type {name} have {row.width * 8} bits in this index, the query's have {len(bodies[0]) * 8}")
        search = TypeSearch(name, row, posting_prefix(index.number, row.number), bodies, cursor, index.assets)
        near: Near = defaultdict(dict)
        if exact:
            for place, body in enumerate(bodies):
                near[body][place] = 1.0
        else:
            self._find_near((index.number, row.number, row.width), row, bodies, near)
        search.take(near)
        return search

    def _find_near(self, name: ColumnName, row: TypeRow, bodies: list[Body], near: Near) -> None:
        column = self._columns.get(name)
        radius = self._radius(row)
        if column is None or radius < 0:
            return
        view = column.view()
        if view.valid_from > self._sequence:
            raise StaleView
        queries = _query_words(bodies)
        in_graphs = self._options.graphs and sum(row.codes.values()) > self._options.exact_max_codes
        for segment in view.segments:
            if not (in_graphs and self._find_in_graph(segment, bodies, radius, near)):
                _scan(segment.words, segment.rows, queries, radius, near)
        for words, count in view.blocks:
            _scan(words, count, queries, radius, near)

    def _find_in_graph(self, segment: Segment, bodies: list[Body], radius: int, near: Near) -> bool:
        """False when the segment has no graph yet, and then nothing was done."""
        nearest = [self._tiers.nearest(segment, body, radius) for body in bodies]
        for place, rows in enumerate(nearest):
            if rows is None:
                return False
            for row in rows:
                for body in to_bodies(run_of(segment.words, row, segment.words.shape[0])):
                    near[body][place] = scoring.similarity(bodies[place], body)
        self._approximate = True
        return True

    def _radius(self, row: TypeRow) -> int:
        return scoring.radius(row.width * 8, self._options.match_threshold_simprints)

    def _gather(self, types: list[TypeSearch], limit: int, leave_out: Key | None) -> bool:
        """Reads postings until no unread asset can enter the answer. True when the bound stopped it first."""
        room = self._options.max_chunk_postings
        while waiting := [search for search in types if search.next_freq]:
            search = min(waiting, key=lambda search: search.next_freq)
            if search.next_freq > QUESTION_POSTINGS and self._is_decided(types, limit, leave_out):
                return False
            if search.next_freq > room:
                search.read_part(room)
                _ask_about_all(types)
                return True
            room -= search.read_next()
        return False

    def _is_decided(self, types: list[TypeSearch], limit: int, leave_out: Key | None) -> bool:
        """True when the answer is full of assets that are better than any unseen one; their scores are complete then."""
        if len(_keys(types)) < limit:
            return False
        _ask_about_all(types)
        best = heapq.nlargest(limit, (score for _, score in _scores(types, leave_out)))
        return len(best) == limit and best[-1] > max(search.most_unread() for search in types)

    def _complete(self, index: IndexRow, types: list[TypeSearch]) -> None:
        for key in _keys(types):
            for search in types:
                search.complete(key, self._stored(index, search.row, key), _query_words(search.queries), self._radius(search.row))

    def _stored(self, index: IndexRow, row: TypeRow, key: Key) -> list[Simprint]:
        packed = self._txn.get(u32(index.number) + key + u32(row.number), db=self._store.simprints)
        return unpack_simprints(packed, row.width) if packed is not None else []

    def _match(self, index: IndexRow, types: list[TypeSearch], key: Key, score: float) -> ChunkMatch:
        record = self._txn.get(u32(index.number) + key, db=self._store.assets) or b""
        matches = {
            search.name: search.match(search.found[key], self._stored(index, search.row, key)) for search in types if key in search.found
        }
        return ChunkMatch(index.realm, key, score, matches, public_metadata(records.decode(record).metadata))


def _query_words(bodies: list[Body]) -> Words:
    return np.frombuffer(b"".join(bodies), dtype=">u8").astype(np.uint64).reshape(len(bodies), len(bodies[0]) // WORD_BYTES)


def _scan(words: Words, count: int, queries: Words, radius: int, near: Near) -> None:
    hits = kernels.range_scan(words, count, queries, radius)
    if len(hits.row):
        bits = words.shape[0] * WORD_BYTES * 8
        found = zip(to_bodies(words[:, hits.row]), hits.query.tolist(), hits.distance.tolist(), strict=True)
        for body, place, distance in found:
            near[body][place] = scoring.similarity_at(distance, bits)


def _keys(types: list[TypeSearch]) -> set[Key]:
    return set().union(*(search.found for search in types))


def _ask_about_all(types: list[TypeSearch]) -> None:
    for key in _keys(types):
        for search in types:
            search.ask_about(key)


def _scores(types: list[TypeSearch], leave_out: Key | None) -> Iterator[tuple[Key, float]]:
    """The mean over the types in which an asset matched."""
    for key in _keys(types):
        if key != leave_out:
            scores = [search.score(search.found[key]) for search in types if key in search.found]
            yield key, sum(scores) / len(scores)
