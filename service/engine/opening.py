"""Opening: what a data directory holds, which sealed files can be trusted as they stand, and rebuilding what cannot be trusted."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Literal

import msgspec

from service.engine.columns import ColumnName, Columns, Segment, Token, map_segment
from service.engine.errors import Damaged
from service.engine.files import CLEAN, LIVE, sync_directory
from service.engine.graphs import GraphFile
from service.engine.group import types_of
from service.engine.header import check_header
from service.engine.layout import SegmentRow, column_key, index_rows, parse_column_key, parse_tail, segment_rows
from service.engine.parts import Parts
from service.engine.segments import clear_unnamed, describe, is_untouched, is_whole, missing_rows, segment_path, split, write_segment
from service.engine.store import Store, Transaction, create
from service.engine.walk import require_whole

_KEY_BYTES = 9

Doubtful = tuple[ColumnName, Token, SegmentRow]
"""A segment whose file is missing or not the one whose digest was checked."""
CheckLater = Callable[[ColumnName, Token, tuple[GraphFile, ...]], None]


class LocalData(msgspec.Struct, frozen=True):
    """What a data directory holds. `reason` says what is damaged."""

    data: Literal["none", "damaged", "whole"]
    reason: str = ""


def inspect(directory: Path) -> LocalData:
    """Looks without opening; the caller has the lock. After a stop that was not clean every page is read, and what is whole gets the mark
    `clean`, so that `Engine.open` does not read it again. Raises Damaged for a directory that is not ours."""
    refuse_foreign(directory)
    live = directory / LIVE
    if not live.is_dir() or not any(live.iterdir()):
        return LocalData("none")
    try:
        if not (live / "data.mdb").exists():
            raise Damaged(f"{live / 'data.mdb'} is missing, but other files of the index are there")
        check_header(live / "data.mdb")
        if not (directory / CLEAN).exists():
            require_whole(live)
            mark_whole(directory)
    except Damaged as error:
        return LocalData("damaged", str(error))
    return LocalData("whole")


def mark_whole(directory: Path) -> None:
    """The caller knows that every byte of `data.mdb` is right: the next open does not read them all."""
    (directory / CLEAN).touch()
    sync_directory(directory)


def make_empty(live: Path) -> None:
    """An empty store under a name that is free: there whole, or not at all."""
    create(live)


def require_readable(directory: Path) -> None:
    """Every page is read once, so that a damaged one is an error now and not a crash later; not after a clean stop. The mark of that goes:
    from now on a stop may be any."""
    live = directory / LIVE
    if (directory / CLEAN).exists():
        (directory / CLEAN).unlink()
        sync_directory(directory)
    elif (live / "data.mdb").exists():
        check_header(live / "data.mdb")
        require_whole(live)


def refuse_foreign(directory: Path) -> None:
    """A directory that iscc-search wrote is not ours to touch."""
    found = sorted(path.parent.name for path in directory.glob("*/index.lmdb")) if directory.is_dir() else []
    if found:
        raise Damaged(
            f"{directory} was written by iscc-search (indexes: {', '.join(found)}) and is left as it is: set ISCC_SEARCH_INDEX_URI to "
            "another, empty directory, start tidepool, and add the assets again with `iscc-search index add NAME --remote URL` "
            "and `iscc-search add`"
        )


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
    doubtful = [found for found in doubtful if not parts.columns.dropped(found[0][0])]
    lost: defaultdict[ColumnName, list[Token]] = defaultdict(list)
    whole: list[Doubtful] = []
    for found, is_right in zip(doubtful, _hash_all(doubtful, parts.directory), strict=True):
        if is_right:
            whole.append(found)
            continue
        name, token, row = found
        path = segment_path(parts.directory, token)
        parts.report("segment file is missing or damaged, rebuilding it from the postings", {"file": str(path), "codes": row.rows})
        lost[name].append(token)
    _adopt_all(whole, parts, check_later)
    for name, tokens in lost.items():
        _rebuild_column(name, tokens, parts)
        parts.tally.segments_rebuilt += len(tokens)
        for token in tokens:
            for path in parts.directory.glob(f"{token.hex()}.*"):
                path.unlink()


def _hash_all(doubtful: list[Doubtful], directory: Path) -> list[bool]:
    """Whether the content of each is what was sealed. On all processors: hashing is most of the time after a restore."""
    with ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="hash") as pool:
        return list(pool.map(lambda found: is_whole(segment_path(directory, found[1]), found[2], found[0][2]), doubtful))


def _adopt_all(whole: list[Doubtful], parts: Parts, check_later: CheckLater) -> None:
    """These files are trusted from now on: in one transaction, so that a death before it costs nothing but hashing again."""
    if not whole:
        return
    with parts.store.write(0) as txn:
        for name, token, row in whole:
            described = describe(segment_path(parts.directory, token), row.rows, row.digest)
            parts.put_segment(txn, name, token, msgspec.structs.replace(described, graphs=row.graphs))
    for name, token, row in whole:
        check_later(name, token, row.graphs)
        _adopt(parts.columns, name, Segment(token, map_segment(segment_path(parts.directory, token), row.rows, name[2]), ()))


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
