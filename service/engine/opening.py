"""Opening: which sealed files can be trusted as they stand, what the tail held, and rebuilding what cannot be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import groupby

import msgspec

from service.engine.columns import ColumnName, Columns, Segment, Token, map_segment
from service.engine.graphs import GraphFile
from service.engine.group import types_of
from service.engine.parts import Parts
from service.engine.segments import clear_unnamed, describe, is_untouched, is_whole, missing_rows, segment_path, split, write_segment
from service.engine.store import SegmentRow, Store, Transaction, column_key, index_rows, parse_column_key, parse_tail, segment_rows

_KEY_BYTES = 9

Doubtful = tuple[ColumnName, Token, SegmentRow]
"""A segment whose file is missing or not the one whose digest was checked."""
CheckLater = Callable[[ColumnName, Token, tuple[GraphFile, ...]], None]


def open_columns(parts: Parts, check_later: CheckLater) -> list[Doubtful]:
    """Maps the segments that are untouched, reads the tail, removes files that no row names. Returns what must be looked at."""
    doubtful: list[Doubtful] = []
    named: set[str] = set()
    with parts.store.read() as txn:
        indexes = _index_numbers(txn, parts.store)
        with txn.cursor(db=parts.store.segments) as cursor:
            for key, value in cursor.iternext():
                name, token, row = parse_column_key(key), Token(key[_KEY_BYTES:]), segment_rows.decode(value)
                path = segment_path(parts.directory, token)
                named.update([path.name, *(graph.name for graph in row.graphs)])
                if name[0] not in indexes:
                    continue
                if is_untouched(path, row, name[2]):
                    _adopt(parts.columns, name, Segment(token, map_segment(path, row.rows, name[2]), ()))
                    check_later(name, token, row.graphs)
                else:
                    doubtful.append((name, token, row))
        _read_tail(txn, parts, indexes)
        _count_dead(txn, parts, indexes)
    clear_unnamed(parts.directory, named)
    return doubtful


def rebuild(doubtful: list[Doubtful], parts: Parts, check_later: CheckLater) -> None:
    """Adopts files whose content is what was sealed; what is missing is written again from the postings."""
    lost: defaultdict[ColumnName, list[Token]] = defaultdict(list)
    for name, token, row in doubtful:
        path = segment_path(parts.directory, token)
        if is_whole(path, row, name[2]):
            described = msgspec.structs.replace(describe(path, row.rows, row.digest), graphs=row.graphs)
            with parts.store.write(0) as txn:
                parts.put_segment(txn, name, token, described)
            check_later(name, token, row.graphs)
            _adopt(parts.columns, name, Segment(token, map_segment(path, row.rows, name[2]), ()))
        else:
            parts.report("segment file is missing or damaged, rebuilding it from the postings", {"file": str(path), "codes": row.rows})
            lost[name].append(token)
    for name, tokens in lost.items():
        _rebuild_column(name, tokens, parts)
        parts.tally.segments_rebuilt += len(tokens)
        for token in tokens:
            for path in parts.directory.glob(f"{token.hex()}.*"):
                path.unlink()


def _rebuild_column(name: ColumnName, lost: list[Token], parts: Parts) -> None:
    column = parts.columns.open(name)
    with parts.store.read() as txn:
        missing = missing_rows(txn, parts.store, name[0], name[1], column)
        pieces = [part for words in missing for part in split(words, parts.options.segment_codes)]
    written = [write_segment(parts.directory, words) for words in pieces]
    with parts.store.write(0) as txn:
        for token in lost:
            txn.delete(column_key(*name) + token, db=parts.store.segments)
        for segment, row in written:
            parts.put_segment(txn, name, segment.token, row)
    column.replace([], [segment for segment, _ in written], 0)


def _adopt(columns: Columns, name: ColumnName, segment: Segment) -> None:
    columns.open(name).replace([], [segment], 0)


def _index_numbers(txn: Transaction, store: Store) -> set[int]:
    with txn.cursor(db=store.indexes) as cursor:
        return {index_rows.decode(value).number for value in cursor.iternext(keys=False, values=True)}


def _read_tail(txn: Transaction, parts: Parts, indexes: set[int]) -> None:
    with txn.cursor(db=parts.store.tail) as cursor:
        for prefix, rows in groupby(cursor.iternext(), lambda item: item[0][:_KEY_BYTES]):
            name = parse_column_key(prefix)
            found = [parse_tail(*row) for row in rows]
            if name[0] in indexes:
                numbers = [first + at for first, bodies in found for at in range(len(bodies))]
                parts.columns.open(name).put_back([body for _, bodies in found for body in bodies], numbers)


def _count_dead(txn: Transaction, parts: Parts, indexes: set[int]) -> None:
    """Rows without a posting, as far as the counters tell: they say when a rewrite pays."""
    codes = {
        (index, row.number, length): count
        for index in indexes
        for _, row in types_of(txn, parts.store, index)
        for length, count in row.codes.items()
    }
    for name, column in parts.columns:
        column.dead = max(0, column.rows - codes.get(name, 0))
