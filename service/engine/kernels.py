"""The scans of the exact tier: all rows of a block or segment within a Hamming distance of a query, or the nearest ones.

Two kernels stand behind `range_scan`, `body_scan` (whole rows of many blocks at once) and `top_scan` and answer alike: the C extension
`_scan`, where it was built, and numpy.
Rows are stored word by word: word `i` of every row is `columns[i]`. A query of fewer words is compared with the first words of each
row. Columns come from memory once for all queries of a call: a block of rows meets every query before the next block is read.
Of the `threads` that `body_scan` may use, small work takes one.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from service.engine import _scan

    KERNEL = f"c-{_scan.variant()}"
except ImportError:  # there was no compiler where this was installed
    KERNEL = "numpy"

WORD_BITS = 64
WORDS_MAX = 4
BLOCK_ROWS = 16384  # numpy only: 128 KiB of one word, so that a block and its temporaries stay in L2

Words = NDArray[np.uint64]
Distances = NDArray[np.uint16]
Part = tuple[Words, int]
"""Columns, and how many of their rows count."""


class Hits(NamedTuple):
    """Pairs of a query and a row, ordered by query, then row. The arrays may be read-only."""

    query: NDArray[np.int64]
    row: NDArray[np.int64]
    distance: Distances


class Bodies(NamedTuple):
    """Pairs of a query and a row, which is given by its body. The arrays may be read-only."""

    body: NDArray[np.void]
    query: NDArray[np.int64]
    distance: Distances


class Nearest(NamedTuple):
    """Rows ordered by distance, then row. The arrays may be read-only."""

    row: NDArray[np.int64]
    distance: Distances


NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)
NO_DISTANCES: Distances = np.empty(0, np.uint16)
NO_HITS = Hits(NO_ROWS, NO_ROWS, NO_DISTANCES)
NO_NEAREST = Nearest(NO_ROWS, NO_DISTANCES)


def compiled_range_scan(columns: Words, count: int, queries: Words, radii: Sequence[int] | int) -> Hits:
    packed = _scan.range_scan(columns, count, queries, radii)
    if packed is None:
        return NO_HITS
    length = len(packed) // 18
    return Hits(
        np.frombuffer(packed, np.int64, length),
        np.frombuffer(packed, np.int64, length, 8 * length),
        np.frombuffer(packed, np.uint16, length, 16 * length),
    )


def compiled_body_scan(parts: Sequence[Part], queries: Words, radii: Sequence[int] | int, threads: int) -> Bodies:
    size = queries.shape[-1] * WORD_BITS // 8
    packed = _scan.body_scan(parts, queries, radii, threads) or b""
    length = len(packed) // (size + 10)
    return Bodies(
        np.frombuffer(packed, f"V{size}", length),
        np.frombuffer(packed, np.int64, length, size * length),
        np.frombuffer(packed, np.uint16, length, (size + 8) * length),
    )


def compiled_top_scan(columns: Words, count: int, query: Words, limit: int) -> Nearest:
    packed = _scan.top_scan(columns, count, query, limit)
    if packed is None:
        return NO_NEAREST
    length = len(packed) // 10
    return Nearest(np.frombuffer(packed, np.int64, length), np.frombuffer(packed, np.uint16, length, 8 * length))


def numpy_range_scan(columns: Words, count: int, queries: Words, radii: Sequence[int] | int) -> Hits:
    _check_arrays(columns, count, queries, 2)
    limits = _checked_radii(radii, len(queries))
    found: list[Hits] = []
    for start in range(0, count, BLOCK_ROWS):
        stop = min(start + BLOCK_ROWS, count)
        for number, (query, radius) in enumerate(zip(queries, limits, strict=True)):
            distances = _distances(columns, start, stop, query)
            rows = np.flatnonzero(distances <= radius)
            if rows.size:
                found.append(Hits(np.full(rows.size, number), rows + start, distances[rows].astype(np.uint16)))
    if not found:
        return NO_HITS
    numbers, rows, near = (np.concatenate(parts) for parts in zip(*found, strict=True))
    order = np.argsort(numbers, kind="stable")
    return Hits(numbers[order], rows[order], near[order])


def numpy_body_scan(parts: Sequence[Part], queries: Words, radii: Sequence[int] | int, _threads: int) -> Bodies:
    """On one thread, whatever is allowed."""
    kind = f"V{queries.shape[-1] * WORD_BITS // 8}"
    found = [Bodies(np.empty(0, kind), NO_ROWS, NO_DISTANCES)]
    for columns, count in parts:
        if queries.shape[-1] != len(columns):
            raise ValueError(f"queries do not fit columns query_words={queries.shape[-1]} column_words={len(columns)}")
        hits = numpy_range_scan(columns, count, queries, radii)
        rows = columns.T[hits.row].astype(">u8", order="C")
        found.append(Bodies(rows.view(kind).ravel(), hits.query, hits.distance))
    return Bodies(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def numpy_top_scan(columns: Words, count: int, query: Words, limit: int) -> Nearest:
    _check_arrays(columns, count, query, 1)
    if operator.index(limit) < 1:
        raise ValueError(f"limit is less than one limit={limit}")
    radius = WORD_BITS * len(query)
    known = np.zeros(radius + 1, np.int64)
    found: list[Nearest] = []
    for start in range(0, count, BLOCK_ROWS):
        distances = _distances(columns, start, min(start + BLOCK_ROWS, count), query)
        rows = np.flatnonzero(distances <= radius)
        if rows.size:
            near = distances[rows].astype(np.uint16)
            found.append(Nearest(rows + start, near))
            known += np.bincount(near, minlength=known.size)
            radius = min(radius, int(np.searchsorted(np.cumsum(known), limit)))
    if not found:
        return NO_NEAREST
    rows, nearest = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = nearest <= radius
    order = np.argsort(nearest[kept], kind="stable")
    return Nearest(rows[kept][order], nearest[kept][order])


def _distances(columns: Words, start: int, stop: int, query: Words) -> NDArray[np.uint8] | Distances:
    """Up to three words differ in at most 192 bits, which a byte can hold: bytes are summed and compared faster."""
    words = len(query)
    total: NDArray[np.uint8] | Distances = np.bitwise_count(columns[0, start:stop] ^ query[0])
    for word in range(1, words):
        more = np.bitwise_count(columns[word, start:stop] ^ query[word])
        total = np.add(total, more, dtype=np.uint16) if word == WORDS_MAX - 1 else np.add(total, more, out=total)
    return total


def _check_arrays(columns: Words, count: int, queries: Words, dimensions: int) -> None:
    """What `_scan` checks, for the other kernel."""
    for array, expected in ((columns, 2), (queries, dimensions)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint64 or array.ndim != expected:
            raise TypeError(f"columns and queries must be arrays of uint64 dimensions={expected}")
    if columns.shape[1] > 1 and columns.strides[1] != columns.itemsize:
        raise ValueError("the rows of columns do not follow one another")
    if not 0 <= operator.index(count) <= columns.shape[1]:
        raise ValueError(f"count out of range count={count} capacity={columns.shape[1]}")
    if not 1 <= queries.shape[-1] <= min(len(columns), WORDS_MAX):
        raise ValueError(f"queries do not fit columns query_words={queries.shape[-1]} column_words={len(columns)}")


def _checked_radii(radii: Sequence[int] | int, length: int) -> list[int]:
    limits = [operator.index(radius) for radius in radii] if isinstance(radii, Sequence | np.ndarray) else [operator.index(radii)]
    if min(limits, default=0) < 0:
        raise ValueError(f"radius is negative radius={min(limits)}")
    if not isinstance(radii, Sequence | np.ndarray):
        return limits * length
    if len(limits) != length:
        raise ValueError(f"one radius for each query is needed radii={len(limits)} queries={length}")
    return limits


range_scan = numpy_range_scan if KERNEL == "numpy" else compiled_range_scan
body_scan = numpy_body_scan if KERNEL == "numpy" else compiled_body_scan
top_scan = numpy_top_scan if KERNEL == "numpy" else compiled_top_scan
