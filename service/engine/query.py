"""A search over units: query bodies → codes at or above the threshold → postings → scores → records.

The transaction is open before the views of the columns are taken: whatever a posting names has a row in the view.
A hit without a posting is dropped.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

from service.engine import codes, kernels, scoring
from service.engine.columns import LENGTHS, WORD_BYTES, ColumnName, Columns, Segment, Words, query_words, run_of, to_bodies
from service.engine.group import find_type, record_of, units_of
from service.engine.layout import IndexRow, posting_prefix
from service.engine.metadata import public_metadata
from service.engine.options import Options
from service.engine.postings import has_no_column
from service.engine.requests import Body, Key, Match, Raw, StoredAsset
from service.engine.stale import StaleView
from service.engine.store import Cursor, Store, Transaction, distinct_keys
from service.engine.tiers import Tiers

HITS_MAX = 400_000
"""Codes that one search may hold; what is cut is the least similar."""

SORTED_MAX = 1_000
"""Up to so many candidates are quicker sorted than searched for the best."""

Hit = tuple[float, str, bytes]
"""Similarity, type name, key of the code in `postings`."""
Near = list[tuple[float, bytes]]
"""Similarities and bodies."""
Found = dict[Key, dict[str, float]]
"""The best similarity of each candidate for each type."""


class Wanted(NamedTuple):
    """What the query has of one type."""

    bodies: list[Body]
    by_prefix: bool


class UnitSearch:
    """One search over units in one transaction."""

    def __init__(self, txn: Transaction, sequence: int, store: Store, columns: Columns, tiers: Tiers, options: Options) -> None:
        self._txn = txn
        self._sequence = sequence
        self._store = store
        self._columns = columns
        self._tiers = tiers
        self._options = options
        self._approximate = False
        self._cut = False
        self._limit = 0

    def run(self, index: IndexRow, units: list[Raw], limit: int, *, leave_out: Key | None) -> tuple[list[Match], bool]:
        """The best `limit` matches in order, and whether more candidates existed than may be gathered."""
        self._limit = limit
        wanted = {name: Wanted(bodies, has_no_column("u" + name)) for name, bodies in by_type(units).items()}
        hits: list[Hit] = []
        for name in wanted:
            self._add_hits(index, name, wanted[name], hits)
        if self._columns.dropped(index.number):
            raise StaleView
        found, truncated = self._gather(hits, index.assets)
        truncated = truncated or self._cut
        if leave_out is not None:
            found.pop(leave_out, None)
        if truncated or self._approximate:
            found = {key: self._similarities(wanted, record_of(self._txn, self._store, index.number, key)) for key in found}
        best = self._best(found, limit)
        return [self._match(index, wanted, key, score, found[key]) for score, key in best], truncated

    def _add_hits(self, index: IndexRow, name: str, wanted: Wanted, hits: list[Hit]) -> None:
        row = find_type(self._txn, self._store, index.number, "u" + name)
        if row is None:
            return
        prefix = posting_prefix(index.number, row.number)
        if wanted.by_prefix:
            for body in wanted.bodies:
                hits += [(1.0, name, code) for code in self._same_instance(prefix, body)]
            return
        in_graphs = self._options.graphs and sum(row.codes.values()) > self._options.exact_max_codes
        for length in row.codes:
            place = (index.number, row.number, length)
            for body in wanted.bodies:
                near = self._near(place, Body(body[:length]), prefix, in_graphs=in_graphs)
                hits += [(similarity, name, prefix + found) for similarity, found in near]
            if len(hits) > HITS_MAX:
                self._bound(hits)

    def _same_instance(self, prefix: bytes, body: Body) -> Iterator[bytes]:
        """Stored bodies that begin with the query's, and those that the query's begins with."""
        with self._txn.cursor(db=self._store.postings) as cursor:
            for length in LENGTHS:
                if length < len(body) and cursor.set_key(prefix + body[:length]):
                    yield prefix + body[:length]
            yield from distinct_keys(cursor, prefix + body)

    def _bound(self, hits: list[Hit]) -> None:
        """Keeps the most similar living codes, of equals the first in byte order: the same whatever order they were found in."""
        best: dict[bytes, Hit] = {}
        for hit in sorted(hits, key=itemgetter(0), reverse=True):
            best.setdefault(hit[2], hit)
        with self._txn.cursor(db=self._store.postings) as cursor:
            alive = [best[code] for code in cursor.getmulti(best, values=False)]
        self._cut = self._cut or len(alive) > HITS_MAX
        hits[:] = heapq.nsmallest(HITS_MAX, alive, key=lambda hit: (-hit[0], hit[2]))

    def _near(self, name: ColumnName, compared: Body, prefix: bytes, *, in_graphs: bool) -> Near:
        """Stored bodies of one length at or above the threshold, compared over the length of `compared`."""
        column = self._columns.get(name)
        radius = scoring.radius(len(compared) * 8, self._options.match_threshold)
        near: Near = []
        if column is None or radius < 0:
            return near
        view = column.view()
        if view.valid_from > self._sequence:
            raise StaleView
        words = query_words([compared])
        for segment in view.segments:
            found = self._in_graph(name, segment, compared, radius, prefix) if in_graphs else None
            near += _scan(segment.words, segment.rows, words, radius) if found is None else found
        for block, count in view.blocks:
            near += _scan(block, count, words, radius)
        return near

    def _in_graph(self, name: ColumnName, segment: Segment, compared: Body, radius: int, prefix: bytes) -> Near | None:
        """None when the segment has no graph, or what the graph found is full of dead rows: others behind them may be alive."""
        nearest = self._tiers.nearest(name, segment, compared, radius)
        if nearest is None:
            return None
        near = _runs(segment, nearest.rows, compared)
        if nearest.full:
            with self._txn.cursor(db=self._store.postings) as cursor:
                if len(cursor.getmulti([prefix + body for _, body in near], values=False)) < self._limit:
                    return None
        self._approximate = True
        return near

    def _gather(self, hits: list[Hit], assets: int) -> tuple[Found, bool]:
        """Candidates from the highest similarity down, within one similarity by ISCC-ID, up to the bound."""
        found: Found = {}
        hits.sort(key=itemgetter(0), reverse=True)
        with self._txn.cursor(db=self._store.postings) as cursor:
            if assets <= self._options.max_candidates:
                _gather_all(cursor, found, hits)
                return found, False
            for similarity, level in groupby(hits, itemgetter(0)):
                if not self._gather_level(cursor, found, similarity, {code: name for _, name, code in level}):
                    return found, True
        return found, False

    def _gather_level(self, cursor: Cursor, found: Found, similarity: float, names: dict[bytes, str]) -> bool:
        """False when the bound was reached and a candidate left out; the scores of all are then made anew."""
        room = self._options.max_candidates - len(found)
        if sum(cursor.count() for code in names if cursor.set_key(code)) > room:
            new = self._lowest_keys(cursor, names, found.keys(), room + 1)
            if len(new) > room:
                found.update((key, {}) for key in new[:room])
                return False
        _gather_all(cursor, found, [(similarity, name, code) for code, name in names.items()])
        return True

    def _lowest_keys(self, cursor: Cursor, codes: Iterable[bytes], known: Collection[Key], most: int) -> list[Key]:
        """The first assets of some codes in the order of ISCC-IDs, without those that are known."""
        lowest: set[Key] = set()
        for code in codes:
            if cursor.set_key(code):
                lowest.update(Key(key) for key in islice(cursor.iternext_dup(), most + len(known)) if key not in known)
            if len(lowest) > 2 * most:
                lowest = set(heapq.nsmallest(most, lowest))
        return heapq.nsmallest(most, lowest)

    def _best(self, found: Found, limit: int) -> list[tuple[float, Key]]:
        threshold, exponent = self._options.match_threshold, self._options.confidence_exponent
        scored = [
            (-score, key)
            for key, similarities in found.items()
            if (score := scoring.score(similarities.values(), threshold, exponent)) is not None
        ]
        scored = sorted(scored)[:limit] if len(scored) <= SORTED_MAX else heapq.nsmallest(limit, scored)
        return [(-score, key) for score, key in scored]

    def _match(self, index: IndexRow, wanted: dict[str, Wanted], key: Key, score: float, found: dict[str, float]) -> Match:
        record = record_of(self._txn, self._store, index.number, key)
        if len(found) < len(wanted):
            missing = {name: asked for name, asked in wanted.items() if name not in found and not asked.by_prefix}
            if missing:
                found = found | self._similarities(missing, record)
        types = {name: found[name] for name in wanted if name in found}
        return Match(index.realm, key, score, types, public_metadata(record.metadata))

    def _similarities(self, wanted: dict[str, Wanted], record: StoredAsset) -> dict[str, float]:
        """The similarity of an asset for each type, from what is stored of it: the best pair counts."""
        stored = by_type(units_of(record))
        result = {}
        for name, asked in wanted.items():
            pairs = [(query, body) for query in asked.bodies for body in stored.get(name, ())]
            if asked.by_prefix:
                if any(query.startswith(body) or body.startswith(query) for query, body in pairs):
                    result[name] = 1.0
            elif pairs:
                result[name] = max(scoring.similarity(query, body) for query, body in pairs)
        return result


def by_type(units: Iterable[Raw]) -> dict[str, list[Body]]:
    """Distinct bodies by type name, both in the order of the units."""
    wanted: dict[str, list[Body]] = {}
    for unit in units:
        bodies = wanted.setdefault(codes.unit_type(unit), [])
        body = codes.unit_body(unit)
        if body not in bodies:
            bodies.append(body)
    return wanted


def _scan(columns: Words, count: int, query: Words, radius: int) -> Near:
    """The rows within the radius."""
    hits = kernels.range_scan(columns, count, query, radius)
    if not len(hits.row):
        return []
    bits = query.shape[1] * 64
    similarities = (1 - hits.distance / bits).tolist()
    return list(zip(similarities, to_bodies(columns[:, hits.row]), strict=True))


def _runs(segment: Segment, rows: list[int], compared: Body) -> Near:
    """The runs that begin at `rows`, scored from the bodies themselves."""
    near: Near = []
    for row in rows:
        bodies = to_bodies(run_of(segment.words, row, len(compared) // WORD_BYTES))
        similarity = scoring.similarity(compared, bodies[0])
        near += [(similarity, body) for body in bodies]
    return near


def _gather_all(cursor: Cursor, found: Found, hits: list[Hit]) -> None:
    """The assets of codes in falling order of similarity: the first similarity of a type is the best."""
    best: dict[bytes, Hit] = {}
    for hit in hits:
        best.setdefault(hit[2], hit)
    for code, key in cursor.getmulti(best, dupdata=True, dupfixed_bytes=8):
        similarity, name, _ = best[code]
        found.setdefault(Key(key), {}).setdefault(name, similarity)
