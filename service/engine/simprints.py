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
from collections.abc import Iterable, Iterator

import numpy as np

from service.engine import kernels, scoring
from service.engine.chunks import TypeSearch
from service.engine.columns import ColumnName, Segment, Words, query_words, to_bodies
from service.engine.errors import Unfit
from service.engine.group import find_type, record_of
from service.engine.layout import IndexRow, TypeRow, posting_prefix, u32
from service.engine.metadata import public_metadata
from service.engine.parts import Parts
from service.engine.requests import Body, ChunkMatch, Key
from service.engine.stale import StaleView
from service.engine.store import Cursor, Transaction

QUESTION_POSTINGS = 256
"""A code with more postings is not read before it was asked whether it can matter."""
COMPLETED_MIN = 1_000
"""Of a search that was cut, or went through graphs, so many of the best candidates are scored from all that is stored of them."""
HITS_MAX = 200_000
"""Pairs of a query simprint and a code that one type of a search may hold; what is cut is the least similar."""
SCANNED_PAIRS_MAX = 8_000_000
"""Rows times query simprints of one call of the kernel: bounds what a threshold of 0 can return at once."""

Near = defaultdict[bytes, dict[int, float]]
"""Stored bodies at or above the threshold, with the similarity to each query simprint by its place in the query."""


class SimprintSearch:
    """One search over simprints in one transaction."""

    def __init__(self, txn: Transaction, sequence: int, parts: Parts) -> None:
        self._txn = txn
        self._sequence = sequence
        self._store = parts.store
        self._columns = parts.columns
        self._tiers = parts.tiers
        self._options = parts.options
        self._approximate = False
        self._cut = False
        self._limit = 0
        self._threshold = 1.0

    def run(
        self, index: IndexRow, wanted: dict[str, list[Body]], limit: int, *, leave_out: Key | None, exact: bool
    ) -> tuple[list[ChunkMatch], bool]:
        """The best `limit` matches in order, and whether the bound on postings cut the search short. `exact`: identical simprints only."""
        self._limit = limit
        self._threshold = 1.0 if exact else self._options.match_threshold_simprints
        with self._txn.cursor(db=self._store.postings) as cursor:
            types = [
                search for name, bodies in wanted.items() if (search := self._type(index, name, bodies, cursor, exact=exact)) is not None
            ]
            if self._columns.dropped(index.number):
                raise StaleView
            cut = self._gather(types, leave_out)
            if cut or self._cut or self._approximate:
                self._complete(index, types)
            ranked = _best(types, leave_out, limit)
        return [self._match(index, types, key, score) for score, key in ranked], cut or self._cut

    def _type(self, index: IndexRow, name: str, bodies: list[Body], cursor: Cursor, *, exact: bool) -> TypeSearch | None:
        row = find_type(self._txn, self._store, index.number, "s" + name)
        if row is None or not row.width:
            return None
        if row.width != len(bodies[0]):
            text = f"simprints of type {name} have {row.width * 8} bits in this index, the query's have {len(bodies[0]) * 8}"
            raise Unfit(text, ("simprints", name, 0))
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
        queries = query_words(bodies)
        in_graphs = self._options.graphs and sum(row.codes.values()) > self._options.exact_max_codes
        scanned = [
            (segment.words, segment.rows)
            for segment in view.segments
            if not (in_graphs and self._find_in_graph(name, segment, bodies, radius, near))
        ]
        prefix = posting_prefix(*name[:2])
        self._scan([*scanned, *view.blocks], queries, radius, prefix, near)
        self._bound(near, prefix, HITS_MAX)

    def _scan(self, parts: list[kernels.Part], queries: Words, radius: int, prefix: bytes, near: Near) -> None:
        """One pass over the columns. The kernel shares much work among the processors, without the interpreter's lock."""
        step = max(1, SCANNED_PAIRS_MAX // len(queries))
        held = 0
        for some in _calls(_pieces(parts, step), step):
            found = kernels.body_scan(some, queries, radius, self._options.processors)
            if len(found.query) > 2 * HITS_MAX:
                self._cut = True
                found = _nearest(found, 2 * HITS_MAX)
            held += _take(found, near)
            if held > 2 * HITS_MAX:
                self._bound(near, prefix, HITS_MAX)
                held = HITS_MAX

    def _bound(self, near: Near, prefix: bytes, held_max: int) -> None:
        """Keeps the most similar living pairs, of equals the first in byte order: the same whatever order they were found in."""
        if sum(map(len, near.values())) <= held_max:
            return
        with self._txn.cursor(db=self._store.postings) as cursor:
            alive = {code[len(prefix) :] for code in cursor.getmulti([prefix + body for body in near], values=False)}
        pairs = [(-similarity, body, place) for body, places in near.items() if body in alive for place, similarity in places.items()]
        self._cut = self._cut or len(pairs) > held_max
        kept = heapq.nsmallest(held_max, pairs)
        near.clear()
        for similarity, body, place in kept:
            near[body][place] = -similarity

    def _find_in_graph(self, name: ColumnName, segment: Segment, bodies: list[Body], radius: int, near: Near) -> bool:
        """False when the segment has no graph yet, or one has nothing more to give: then nothing was done, and it is scanned."""
        found = []
        for body in bodies:
            nearest = self._tiers.nearest(name, segment, body, radius)
            if nearest is None or nearest.full:
                return False
            found.append(nearest.rows)
        for place, rows in enumerate(found):
            for body in to_bodies(segment.words[:, rows]):
                near[body][place] = scoring.similarity(bodies[place], body)
        self._approximate = True
        return True

    def _radius(self, row: TypeRow) -> int:
        return scoring.radius(row.width * 8, self._threshold)

    def _gather(self, types: list[TypeSearch], leave_out: Key | None) -> bool:
        """Reads postings until no unread asset can enter the answer. True when the bound stopped it first."""
        read, next_question = self._read_rare(types), QUESTION_POSTINGS
        while waiting := [search for search in types if search.next_freq]:
            if read >= self._options.max_chunk_postings:
                return True
            search = min(waiting, key=lambda search: search.next_freq)
            if search.next_freq > QUESTION_POSTINGS and read + search.next_freq >= next_question:
                if self._is_decided(types, leave_out):
                    return False
                next_question = 2 * (read + search.next_freq)  # so that questions never cost more than reading
            read += search.read_next(self._options.max_chunk_postings - read)
        return False

    def _read_rare(self, types: list[TypeSearch]) -> int:
        """Reads all codes that are read without a question, when the bound allows; returns how many postings those were."""
        rare = [(search, *search.rare(QUESTION_POSTINGS)) for search in types]
        postings = sum(found for _, _, found in rare)
        if postings > self._options.max_chunk_postings:
            return 0
        for search, count, _ in rare:
            for _ in range(count):
                search.read_next(postings)
        return postings

    def _is_decided(self, types: list[TypeSearch], leave_out: Key | None) -> bool:
        """True when the answer is full of assets that are better than any unseen one; their scores are complete then."""
        keys = _keys(types)
        questions = len(keys) * sum(search.unread for search in types)
        if len(keys) < self._limit or questions > sum(search.unread_postings for search in types):
            return False
        for key in keys:
            for search in types:
                search.ask_about(key)
        best = _best(types, leave_out, self._limit)
        return len(best) == self._limit and best[-1][0] > max(search.most_unread() for search in types)

    def _complete(self, index: IndexRow, types: list[TypeSearch]) -> None:
        """Scores the best candidates from all that is stored of them: graphs may have missed some of it, and a cut search too."""
        keys = {key for _, key in _best(types, None, max(COMPLETED_MIN, 4 * self._limit))}
        for search in types:
            search.found = {key: found for key, found in search.found.items() if key in keys}
        for search in types:
            queries, radius = query_words(search.queries), self._radius(search.row)
            for key in keys:
                search.complete(key, self._stored(index, search.row, key), queries, radius)

    def _stored(self, index: IndexRow, row: TypeRow, key: Key) -> bytes:
        """The packed simprints of an asset."""
        return self._txn.get(u32(index.number) + key + u32(row.number), b"", db=self._store.simprints)

    def _match(self, index: IndexRow, types: list[TypeSearch], key: Key, score: float) -> ChunkMatch:
        record = record_of(self._txn, self._store, index.number, key)
        matches = {
            search.name: search.match(search.found[key], self._stored(index, search.row, key)) for search in types if key in search.found
        }
        return ChunkMatch(index.realm, key, score, matches, public_metadata(record.metadata))


def _pieces(parts: list[kernels.Part], rows_max: int) -> Iterator[kernels.Part]:
    for words, count in parts:
        if count <= rows_max:
            yield words, count
        else:
            yield from ((words[:, start : start + rows_max], min(rows_max, count - start)) for start in range(0, count, rows_max))


def _calls(parts: Iterable[kernels.Part], rows_max: int) -> Iterator[list[kernels.Part]]:
    """Parts for one call of the kernel each: no more rows than that, but at least one part."""
    some: list[kernels.Part] = []
    rows = 0
    for part in parts:
        if some and rows + part[1] > rows_max:
            yield some
            some, rows = [], 0
        some.append(part)
        rows += part[1]
    if some:
        yield some


def _nearest(found: kernels.Bodies, most: int) -> kernels.Bodies:
    """Of equally near pairs the first in byte order, as in `_bound`: whatever order they were found in."""
    farthest = np.partition(found.distance, most - 1)[most - 1]
    near = np.flatnonzero(found.distance < farthest)
    last = np.flatnonzero(found.distance == farthest)
    bodies = found.body[last].view(f"S{found.body.itemsize}")
    kept = np.concatenate([near, last[np.lexsort((found.query[last], bodies))[: most - len(near)]]])
    return kernels.Bodies(found.body[kept], found.query[kept], found.distance[kept])


def _take(found: kernels.Bodies, near: Near) -> int:
    """Adds what a scan found; returns how many pairs that were."""
    bits = found.body.itemsize * 8
    for body, place, distance in zip(found.body.tolist(), found.query.tolist(), found.distance.tolist(), strict=True):
        near[body][place] = scoring.similarity_at(distance, bits)
    return len(found.query)


def _keys(types: list[TypeSearch]) -> set[Key]:
    return set().union(*(search.found for search in types))


def _best(types: list[TypeSearch], leave_out: Key | None, limit: int) -> list[tuple[float, Key]]:
    """The highest scores, each the mean over the types in which the asset matched; of equals the lowest ISCC-ID."""
    by_type = [search.scores() for search in types]
    if len(by_type) == 1:
        scored = ((-score, key) for key, score in by_type[0].items() if key != leave_out)
    else:
        scored = ((-scoring.mean([scores[key] for scores in by_type if key in scores]), key) for key in _keys(types) if key != leave_out)
    return [(-score, key) for score, key in heapq.nsmallest(limit, scored)]
