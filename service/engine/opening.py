"""Opening: which sealed files can be trusted as they stand, what the tail held, and rebuilding what cannot be trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import msgspec

from service.engine.columns import ColumnName, Columns, Segment, Token, map_segment
from service.engine.graphs import GraphFile
from service.engine.group import types_of
from service.engine.options import Options
from service.engine.segments import clear_unnamed, describe, is_untouched, is_whole, missing_rows, segment_path, split, write_segment
from service.engine.store import SegmentRow, Store, Transaction, column_key, encode, index_rows, parse_column_key, segment_rows
from service.engine.upkeep import Report, Tally

_KEY_BYTES = 9

Doubtful = tuple[ColumnName, Token, SegmentRow]
"""A segment whose file is missing or not the one whose digest was checked."""
CheckLater = Callable[[ColumnName, Token, tuple[GraphFile, ...]], None]


def open_columns(store: Store, directory: Path, columns: Columns, check_later: CheckLater) -> list[Doubtful]:
    """Maps the segments that are untouched, reads the tail, removes files that no row names. Returns what must be looked at."""
    doubtful: list[Doubtful] = []
    named: set[str] = set()
    with store.read() as txn:
        indexes = _index_numbers(txn, store)
        with txn.cursor(db=store.segments) as cursor:
            for key, value in cursor.iternext():
                name, token, row = parse_column_key(key), Token(key[_KEY_BYTES:]), segment_rows.decode(value)
                path = segment_path(directory, token)
                named.update([path.name, *(graph.name for graph in row.graphs)])
                if name[0] not in indexes:
                    continue
                if is_untouched(path, row, name[2]):
                    _adopt(columns, name, Segment(token, map_segment(path, row.rows, name[2]), ()))
                    check_later(name, token, row.graphs)
                else:
                    doubtful.append((name, token, row))
        _read_tail(txn, store, columns, indexes)
        _count_dead(txn, store, columns, indexes)
    clear_unnamed(directory, named)
    return doubtful


def rebuild(
    doubtful: list[Doubtful],
    store: Store,
    directory: Path,
    columns: Columns,
    check_later: CheckLater,
    options: Options,
    tally: Tally,
    report: Report,
) -> None:
    """Adopts files whose content is what was sealed; what is missing is written again from the postings."""
    lost: defaultdict[ColumnName, list[Token]] = defaultdict(list)
    for name, token, row in doubtful:
        path = segment_path(directory, token)
        if is_whole(path, row, name[2]):
            described = msgspec.structs.replace(describe(path, row.rows, row.digest), graphs=row.graphs)
            with store.write(0) as txn:
                txn.put(column_key(*name) + token, encode(described), db=store.segments)
            check_later(name, token, row.graphs)
            _adopt(columns, name, Segment(token, map_segment(path, row.rows, name[2]), ()))
        else:
            report("segment file is missing or damaged, rebuilding it from the postings", {"file": str(path), "codes": row.rows})
            lost[name].append(token)
    for name, tokens in lost.items():
        _rebuild_column(name, tokens, store, directory, columns, options)
        tally.segments_rebuilt += len(tokens)
        for token in tokens:
            for path in directory.glob(f"{token.hex()}.*"):
                path.unlink()


def _rebuild_column(name: ColumnName, lost: list[Token], store: Store, directory: Path, columns: Columns, options: Options) -> None:
    column = columns.open(name)
    with store.read() as txn:
        missing = [part for words in missing_rows(txn, store, name[0], name[1], column) for part in split(words, options.segment_codes)]
    written = [write_segment(directory, words) for words in missing]
    with store.write(0) as txn:
        for token in lost:
            txn.delete(column_key(*name) + token, db=store.segments)
        for segment, row in written:
            txn.put(column_key(*name) + segment.token, encode(row), db=store.segments)
    column.replace([], [segment for segment, _ in written], 0)


def _adopt(columns: Columns, name: ColumnName, segment: Segment) -> None:
    columns.open(name).replace([], [segment], 0)


def _index_numbers(txn: Transaction, store: Store) -> set[int]:
    with txn.cursor(db=store.indexes) as cursor:
        return {index_rows.decode(value).number for value in cursor.iternext(keys=False, values=True)}


def _read_tail(txn: Transaction, store: Store, columns: Columns, indexes: set[int]) -> None:
    with txn.cursor(db=store.tail) as cursor:
        for prefix, rows in groupby(cursor.iternext(), lambda item: item[0][:_KEY_BYTES]):
            name = parse_column_key(prefix)
            found = list(rows)
            if name[0] in indexes:
                columns.open(name).put_back([body for _, body in found], [int.from_bytes(key[_KEY_BYTES:], "big") for key, _ in found])


def _count_dead(txn: Transaction, store: Store, columns: Columns, indexes: set[int]) -> None:
    """Rows without a posting, as far as the counters tell: they say when a rewrite pays."""
    codes = {
        (index, row.number, length): count
        for index in indexes
        for _, row in types_of(txn, store, index)
        for length, count in row.codes.items()
    }
    for name, column in columns:
        column.dead = max(0, column.rows - codes.get(name, 0))
