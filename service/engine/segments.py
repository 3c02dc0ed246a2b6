"""Sealed files on disk: writing them, telling whether a file is the one that was sealed, finding what is missing."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.engine.columns import Column, Segment, Token, Words, map_segment, sort_distinct, to_bodies, to_words
from service.engine.errors import Unwritable
from service.engine.files import digest_of, publish
from service.engine.layout import SegmentRow, posting_prefix
from service.engine.store import Store, Transaction, distinct_keys

CHUNK_ROWS = 262_144
Bytes = NDArray[np.bytes_]


def segment_path(directory: Path, token: Token) -> Path:
    """Where a segment file stands."""
    return directory / f"{token.hex()}.segment"


def graph_name(token: Token, bits: int) -> str:
    """Name of the graph file over a segment at a compared length."""
    return f"{token.hex()}.{secrets.token_hex(4)}.{bits}.graph"


def write_segment(directory: Path, words: Words) -> tuple[Segment, SegmentRow]:
    """A new file under a name that was never used; the caller names it in LMDB."""
    token = Token(secrets.token_bytes(8))
    path = segment_path(directory, token)
    digest = publish(path, [np.ascontiguousarray(column).data.cast("B") for column in words])
    rows = int(words.shape[1])
    try:
        return Segment(token, map_segment(path, rows, words.shape[0] * 8), ()), describe(path, rows, digest)
    except OSError as error:
        path.unlink()
        raise Unwritable(f"cannot map {path}: {error.strerror}") from error


def describe(path: Path, rows: int, digest: bytes) -> SegmentRow:
    """The row of a file as it stands on this disk."""
    status = path.stat()
    return SegmentRow(rows, digest, status.st_mtime_ns, status.st_ino)


def is_untouched(path: Path, row: SegmentRow, length: int) -> bool:
    """True when size, time and inode are those of the file whose digest was checked."""
    if not path.is_file():
        return False
    status = path.stat()
    return (status.st_size, status.st_mtime_ns, status.st_ino) == (row.rows * length, row.modified_ns, row.inode)


def is_whole(path: Path, row: SegmentRow, length: int) -> bool:
    """True when the content is what was sealed, wherever the file came from."""
    return path.is_file() and path.stat().st_size == row.rows * length and digest_of(path) == row.digest


def clear_unnamed(directory: Path, named: set[str]) -> int:
    """Removes files that no row names: what a crash left behind. Returns how many."""
    unnamed = [path for path in directory.iterdir() if path.name not in named and path.is_file()]
    for path in unnamed:
        path.unlink()
    return len(unnamed)


def split(words: Words, rows: int) -> Iterator[Words]:
    """Pieces of at most `rows` rows."""
    for start in range(0, words.shape[1], rows):
        yield np.ascontiguousarray(words[:, start : start + rows])


def live_rows(txn: Transaction, store: Store, index: int, type_number: int, words: Words) -> Words:
    """The rows whose body has a posting."""
    prefix = posting_prefix(index, type_number)
    found: list[bytes] = []
    with txn.cursor(db=store.postings) as cursor:
        for part in split(words, CHUNK_ROWS):
            found.extend(cursor.getmulti([prefix + body for body in to_bodies(part)], values=False))
    return to_words([code[len(prefix) :] for code in found], words.shape[0] * 8)


def missing_rows(
    txn: Transaction, store: Store, index: int, type_number: int, column: Column, without: Token | None = None
) -> Iterator[Words]:
    """Bodies with a posting that stand in none of the column's segments, but `without`, and blocks; in order, in pieces."""
    prefix = posting_prefix(index, type_number)
    key_bytes = len(prefix) + column.length
    view = column.view()
    tail = [words[:, :count] for words, count in view.blocks]
    with txn.cursor(db=store.postings) as cursor:
        keys = (key for key in distinct_keys(cursor, prefix) if len(key) == key_bytes)
        while part := [key[len(prefix) :] for key in islice(keys, CHUNK_ROWS)]:
            words = to_words(part, column.length)
            known = [_between(segment.words, words) for segment in view.segments if segment.token != without] + tail
            held = _as_bytes(sort_distinct(known)) if known else np.empty(0, f"S{column.length}")
            absent = words[:, ~np.isin(_as_bytes(words), held)]
            if absent.shape[1]:
                yield absent


def _between(words: Words, part: Words) -> Words:
    """Rows whose first word lies between the first and the last of `part`."""
    start = int(np.searchsorted(words[0], part[0, 0], side="left"))
    end = int(np.searchsorted(words[0], part[0, -1], side="right"))
    return words[:, start:end]


def _as_bytes(words: Words) -> Bytes:
    rows = np.ascontiguousarray(words.T).astype(">u8")
    return rows.view(f"S{words.shape[0] * 8}").reshape(-1)
