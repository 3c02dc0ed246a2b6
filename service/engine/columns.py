"""The exact tier: the bodies of every code in memory-mapped segments and in blocks of the tail.

A segment file is `words` columns of `rows` native uint64, one behind the other, without a header: word i of all bodies, each word
being eight bytes of the body read big-endian. Rows are sorted by body and distinct. What the file holds (rows, digest) stands in LMDB.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NewType

import numpy as np
from numpy.typing import NDArray

from service.engine.graphs import GraphFile
from service.engine.requests import Body

WORD_BYTES = 8
LINE_BYTES = 64
BLOCK_ROWS_MIN = 256
LENGTHS = (8, 16, 24, 32)

Words = NDArray[np.uint64]
Token = NewType("Token", bytes)
ColumnName = tuple[int, int, int]
"""Index number, type number, body length."""


class Segment(NamedTuple):
    """A mapped segment file and the graphs over it that may be searched."""

    token: Token
    words: Words
    graphs: tuple[GraphFile, ...]

    @property
    def rows(self) -> int:
        return int(self.words.shape[1])


class Block:
    """A piece of the tail. Rows are only ever added, by the writer; `end_row` is one more than the last row number in `tail`."""

    __slots__ = ("count", "end_row", "words")

    def __init__(self, length: int, capacity: int) -> None:
        self.words = _aligned(length // WORD_BYTES, capacity)
        self.count = 0
        self.end_row = 0

    @property
    def room(self) -> int:
        return int(self.words.shape[1]) - self.count

    def grown(self, capacity: int) -> Block:
        """A larger block with the same rows."""
        block = Block(self.words.shape[0] * WORD_BYTES, capacity)
        block.words[:, : self.count] = self.words[:, : self.count]
        block.count, block.end_row = self.count, self.end_row
        return block


class View(NamedTuple):
    """What one search holds of a column. `valid_from` is the oldest sequence that it is complete for."""

    segments: tuple[Segment, ...]
    blocks: tuple[tuple[Words, int], ...]
    valid_from: int


class Column:
    """The bodies of one (index, type, length). One thread writes at a time; any number of threads take views."""

    def __init__(self, length: int, block_rows_max: int) -> None:
        self.length = length
        self._block_rows_max = block_rows_max
        self.dead = 0
        """Rows without a posting, as far as it was counted."""
        self.dead_left = 0
        """Dead rows that a turn of rewriting left; it begins again when there are more."""
        self.rewritten_to = 0
        """The segment that the turn has come to."""
        self._next_row = 0
        self._state: tuple[tuple[Segment, ...], tuple[Block, ...], int] = ((), (), 0)

    def view(self) -> View:
        """Taken after the search's transaction began: so every row that the transaction's postings name is in it."""
        segments, blocks, valid_from = self._state
        return View(segments, tuple((block.words, block.count) for block in blocks), valid_from)

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self._state[0]

    @property
    def tail_rows(self) -> int:
        return sum(block.count for block in self._state[1])

    @property
    def rows(self) -> int:
        return self.tail_rows + sum(segment.rows for segment in self._state[0])

    def append(self, bodies: Sequence[bytes]) -> range:
        """Adds rows; returns their numbers in `tail`."""
        numbers = range(self._next_row, self._next_row + len(bodies))
        self.put_back(bodies, numbers)
        return numbers

    def put_back(self, bodies: Sequence[bytes], numbers: Sequence[int]) -> None:
        """Adds rows whose numbers in `tail` are known; they rise."""
        words = to_words(bodies, self.length)
        done = 0
        while done < len(bodies):
            block = self._open_block()
            part = min(block.room, len(bodies) - done)
            block.words[:, block.count : block.count + part] = words[:, done : done + part]
            block.end_row = numbers[done + part - 1] + 1
            block.count += part
            done += part
        self._next_row = numbers[-1] + 1

    def _open_block(self) -> Block:
        """The block that takes rows. A small one that is full is copied into one of twice its size: searches keep the old one."""
        segments, blocks, valid_from = self._state
        if blocks and blocks[-1].room:
            return blocks[-1]
        if blocks and blocks[-1].count < self._block_rows_max:
            block = blocks[-1].grown(min(self._block_rows_max, 2 * blocks[-1].count))
            blocks = blocks[:-1]
        else:
            block = Block(self.length, min(self._block_rows_max, BLOCK_ROWS_MIN))
        self._state = (segments, (*blocks, block), valid_from)
        return block

    def full_blocks(self, rows_min: int) -> tuple[Block, ...]:
        """The oldest full blocks that together hold `rows_min` rows; none while there are not enough."""
        chosen: list[Block] = []
        held = 0
        for block in self._state[1]:
            if block.count < self._block_rows_max:
                break
            chosen.append(block)
            held += block.count
            if held >= rows_min:
                return tuple(chosen)
        return ()

    def seal(self, blocks: tuple[Block, ...], segment: Segment) -> None:
        """The first `blocks` stand in `segment` from now on."""
        segments, now, valid_from = self._state
        if now[: len(blocks)] != blocks:
            raise AssertionError("only the oldest blocks are sealed, one seal at a time")
        self._state = ((*segments, segment), now[len(blocks) :], valid_from)

    def replace(self, old: Iterable[Token], new: Iterable[Segment], valid_from: int) -> None:
        """Segments that were rewritten; the new ones lack what was dead at `valid_from`."""
        segments, blocks, before = self._state
        gone = set(old)
        kept = tuple(segment for segment in segments if segment.token not in gone)
        self._state = ((*kept, *new), blocks, max(before, valid_from))

    def set_graphs(self, token: Token, graphs: tuple[GraphFile, ...]) -> None:
        """The graphs of one segment that may be searched from now on."""
        segments, blocks, valid_from = self._state
        changed = tuple(segment._replace(graphs=graphs) if segment.token == token else segment for segment in segments)
        self._state = (changed, blocks, valid_from)


class Columns:
    """All columns of all indexes. Created and removed by the writer only."""

    def __init__(self, segment_codes: int) -> None:
        self._block_rows_max = max(1, segment_codes // 2)
        self._columns: dict[ColumnName, Column] = {}
        self._dropped: set[int] = set()

    def get(self, name: ColumnName) -> Column | None:
        return self._columns.get(name)

    def open(self, name: ColumnName) -> Column:
        """The column of that name, made when it is not there."""
        column = self._columns.get(name)
        if column is None:
            column = self._columns[name] = Column(name[2], self._block_rows_max)
        return column

    def drop(self, index: int) -> None:
        """Forgets all columns of an index that was deleted."""
        self._dropped.add(index)
        self._columns = {name: column for name, column in self._columns.items() if name[0] != index}

    def dropped(self, index: int) -> bool:
        """True when a search whose transaction still sees the index must start again."""
        return index in self._dropped

    def __iter__(self) -> Iterator[tuple[ColumnName, Column]]:
        return iter(list(self._columns.items()))


def _aligned(words: int, rows: int) -> Words:
    """An array that begins at a cache line: the kernel reads whole lines, and a quarter faster when it need not read two for each."""
    whole = np.empty(words * rows + LINE_BYTES // WORD_BYTES, np.uint64)
    start = -whole.ctypes.data % LINE_BYTES // WORD_BYTES
    return whole[start : start + words * rows].reshape(words, rows)


def to_words(bodies: Sequence[bytes], length: int) -> Words:
    """Bodies as columns."""
    rows = np.frombuffer(b"".join(bodies), dtype=">u8").reshape(len(bodies), length // WORD_BYTES)
    return np.ascontiguousarray(rows.T, dtype=np.uint64)


def to_bodies(words: Words) -> list[Body]:
    """Columns as bodies."""
    rows = np.ascontiguousarray(words.T).astype(">u8")
    bodies: list[Body] = rows.view(f"V{rows.shape[1] * WORD_BYTES}").ravel().tolist()
    return bodies


def query_words(bodies: Sequence[bytes]) -> Words:
    """Bodies of one length as rows of words, as the kernels take queries."""
    return np.frombuffer(b"".join(bodies), dtype=">u8").astype(np.uint64).reshape(len(bodies), -1)


def sort_distinct(parts: Sequence[Words]) -> Words:
    """The rows of all parts, sorted by body, each once."""
    words = np.concatenate(parts, axis=1)
    words = words[:, np.lexsort(words[::-1])]
    if words.shape[1] == 0:
        return words
    differs = (words[:, 1:] != words[:, :-1]).any(axis=0)
    return np.ascontiguousarray(words[:, np.concatenate(([True], differs))])


def map_segment(path: Path, rows: int, length: int) -> Words:
    """A segment file as columns. The caller has checked that it is the file that was sealed."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), rows * length, access=mmap.ACCESS_READ)
    return np.frombuffer(mapped, dtype=np.uint64).reshape(length // WORD_BYTES, rows)


def run_of(words: Words, row: int, compared: int) -> Words:
    """All rows that begin with the same `compared` words as `row`, the first of its run: they stand behind it, because rows are sorted."""
    end = row + 1
    rows = words.shape[1]
    while end < rows and bool((words[:compared, end] == words[:compared, row]).all()):
        end += 1
    return words[:, row:end]
