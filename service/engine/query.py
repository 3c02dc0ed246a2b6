"""A search over units: query bodies → codes at or above the threshold → postings → scores → records.

The transaction is open before the views of the columns are taken: whatever a posting names has a row in the view.
A hit without a posting is dropped.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from service.engine import codes, kernels, scoring
from service.engine.columns import LENGTHS, WORD_BYTES, Column, Columns, Segment, Words, query_words, run_of, to_bodies
from service.engine.errors import Damaged
from service.engine.group import find_type, units_of
from service.engine.metadata import public_metadata
from service.engine.options import Options
from service.engine.postings import has_no_column
from service.engine.requests import Body, Key, Match, Raw, StoredAsset
from service.engine.stale import StaleView
from service.engine.store import Cursor, IndexRow, Store, Transaction, posting_prefix, records, u32
from service.engine.tiers import Tiers

Hit = tuple[float, str, bytes]
"""Similarity, type name, key of the code in `postings`."""
Found = dict[Key, dict[str, float]]
"""The best similarity of each candidate for each type."""


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

    def run(self, index: IndexRow, units: list[Raw], limit: int, *, leave_out: Key | None) -> tuple[list[Match], bool]:
        """The best `limit` matches in order, and whether more candidates existed than may be gathered."""
        wanted = by_type(units)
        hits = [hit for name, bodies in wanted.items() for hit in self._hits(index, name, bodies)]
        if self._columns.dropped(index.number):
            raise StaleView
        found, truncated = self._gather(hits)
        if leave_out is not None:
            found.pop(leave_out, None)
        if truncated or self._approximate:
            found = {key: self._similarities(wanted, self._record(index, key)) for key in found}
        best = self._best(wanted, found, limit)
        return [self._match(index, wanted, key, score, found[key]) for score, key in best], truncated

    def _hits(self, index: IndexRow, name: str, bodies: list[Body]) -> Iterator[Hit]:
        row = find_type(self._txn, self._store, index.number, "u" + name)
        if row is None:
            return
        prefix = posting_prefix(index.number, row.number)
        if has_no_column("u" + name):
            for body in bodies:
                yield from ((1.0, name, code) for code in self._same_instance(prefix, body))
            return
        in_graphs = self._options.graphs and sum(row.codes.values()) > self._options.exact_max_codes
        for length in LENGTHS:
            column = self._columns.get((index.number, row.number, length))
            if column is None:
                continue
            for body in bodies:
                compared = Body(body[: min(len(body), length)])
                yield from ((similarity, name, prefix + found) for similarity, found in self._near(column, compared, in_graphs=in_graphs))

    def _same_instance(self, prefix: bytes, body: Body) -> Iterator[bytes]:
        """Stored bodies that begin with the query's, and those that the query's begins with."""
        with self._txn.cursor(db=self._store.postings) as cursor:
            for length in LENGTHS:
                if length < len(body) and cursor.set_key(prefix + body[:length]):
                    yield prefix + body[:length]
            if cursor.set_range(prefix + body):
                for key in cursor.iternext_nodup(keys=True, values=False):
                    if not key.startswith(prefix + body):
                        return
                    yield key

    def _near(self, column: Column, compared: Body, *, in_graphs: bool) -> Iterator[tuple[float, bytes]]:
        """Stored bodies of one length at or above the threshold, compared over the length of `compared`."""
        view = column.view()
        if view.valid_from > self._sequence:
            raise StaleView
        bits = len(compared) * 8
        radius = scoring.radius(bits, self._options.match_threshold)
        if radius < 0:
            return
        words = query_words(compared)
        for segment in view.segments:
            rows = self._tiers.nearest(segment, compared) if in_graphs else None
            if rows is None:
                yield from _scan(segment.words, segment.rows, words, radius)
            else:
                self._approximate = True
                yield from self._from_graph(segment, rows, compared)
        for block, count in view.blocks:
            yield from _scan(block, count, words, radius)

    def _from_graph(self, segment: Segment, rows: list[int], compared: Body) -> Iterator[tuple[float, bytes]]:
        """The runs that begin at `rows`, scored from the bodies themselves."""
        for row in rows:
            for body in to_bodies(run_of(segment.words, row, len(compared) // WORD_BYTES)):
                similarity = scoring.similarity(compared, body)
                if similarity < self._options.match_threshold:
                    break
                yield similarity, body

    def _gather(self, hits: list[Hit]) -> tuple[Found, bool]:
        """Candidates from the highest similarity down, within one similarity by ISCC-ID, up to the bound."""
        found: Found = {}
        hits.sort(key=itemgetter(0), reverse=True)
        with self._txn.cursor(db=self._store.postings) as cursor:
            for similarity, level in groupby(hits, itemgetter(0)):
                names = {code: name for _, name, code in level}
                if not self._gather_level(cursor, found, similarity, names):
                    return found, True
        return found, False

    def _gather_level(self, cursor: Cursor, found: Found, similarity: float, names: dict[bytes, str]) -> bool:
        """False when the bound was reached and a candidate left out."""
        room = self._options.max_candidates - len(found)
        if sum(cursor.count() for code in names if cursor.set_key(code)) <= room:
            for code, key in cursor.getmulti(names, dupdata=True, dupfixed_bytes=8):
                found.setdefault(Key(key), {}).setdefault(names[code], similarity)
            return True
        for key, name in heapq.merge(*(self._postings(code, name) for code, name in names.items())):
            if key not in found and len(found) >= self._options.max_candidates:
                return False
            found.setdefault(key, {}).setdefault(name, similarity)
        return True

    def _postings(self, code: bytes, name: str) -> Iterator[tuple[Key, str]]:
        with self._txn.cursor(db=self._store.postings) as cursor:
            if cursor.set_key(code):
                for key in cursor.iternext_dup():
                    yield Key(key), name

    def _best(self, wanted: dict[str, list[Body]], found: Found, limit: int) -> list[tuple[float, Key]]:
        scored = []
        for key, similarities in found.items():
            score = scoring.score(
                [similarities[name] for name in wanted if name in similarities],
                self._options.match_threshold,
                self._options.confidence_exponent,
            )
            if score is not None:
                scored.append((-score, key))
        return [(-score, key) for score, key in heapq.nsmallest(limit, scored)]

    def _match(self, index: IndexRow, wanted: dict[str, list[Body]], key: Key, score: float, found: dict[str, float]) -> Match:
        record = self._record(index, key)
        missing = {name: bodies for name, bodies in wanted.items() if name not in found and not has_no_column("u" + name)}
        types = found | self._similarities(missing, record) if missing else found
        ordered = {name: types[name] for name in wanted if name in types}
        return Match(index.realm, key, score, ordered, public_metadata(record.metadata))

    def _record(self, index: IndexRow, key: Key) -> StoredAsset:
        """A posting and its record are written in one transaction: the record of a candidate is always there."""
        stored = self._txn.get(u32(index.number) + key, db=self._store.assets)
        if stored is None:
            raise Damaged(f"posting without a record index={index.number} key={key.hex()}: run `tidepool verify`")
        return records.decode(stored)

    def _similarities(self, wanted: dict[str, list[Body]], record: StoredAsset) -> dict[str, float]:
        """The similarity of an asset for each type, from what is stored of it: the best pair counts."""
        stored = by_type(units_of(record))
        result = {}
        for name, bodies in wanted.items():
            if name in stored:
                similarity = max(_pair(name, query, body) for query in bodies for body in stored[name])
                if similarity > 0 or not has_no_column("u" + name):
                    result[name] = similarity
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


def _scan(columns: Words, count: int, query: Words, radius: int) -> Iterator[tuple[float, bytes]]:
    """Similarity and body of the rows within the radius."""
    _, rows, distances = kernels.range_scan(columns, count, query, radius)
    if len(rows):
        bits = query.shape[1] * 64
        for body, distance in zip(to_bodies(columns[:, rows]), distances.tolist(), strict=True):
            yield 1 - distance / bits, body


def _pair(name: str, query: Body, stored: Body) -> float:
    if has_no_column("u" + name):
        shared = min(len(query), len(stored))
        return float(query[:shared] == stored[:shared])
    return scoring.similarity(query, stored)
