"""Postings: code → asset keys. Adding and removing them for one request, and keeping count of which codes come and go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import compress, groupby
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from service.engine.columns import WORD_BYTES, Columns
from service.engine.layout import TypeRow, column_key, posting_prefix, tail_values
from service.engine.requests import SIMPRINT_PLACE_BYTES, Key, Simprints
from service.engine.store import Store, Transaction

POSTING_BYTES = 8
PREFIX_BYTES = 8

Posting = tuple[bytes, bytes]
"""Key and value."""
Bytes = NDArray[np.uint8]


class PostingChanges:
    """What one request does to the postings of one index. Collected first, then carried out sorted, which is what makes LMDB quick."""

    def __init__(self) -> None:
        self._added: list[Posting] = []
        self._removed: list[Posting] = []
        self._simprints: defaultdict[tuple[bytes, int], list[tuple[Key, bytes]]] = defaultdict(list)
        self._simprints_held = 0
        self._types: dict[bytes, tuple[str, TypeRow]] = {}

    def add_type(self, name: str, index: int, row: TypeRow) -> bytes:
        """Every type is named before its codes. Returns what its codes begin with."""
        prefix = posting_prefix(index, row.number)
        self._types[prefix] = (name, row)
        return prefix

    def add(self, codes: Iterable[bytes], key: Key) -> None:
        self._added += [(code, key) for code in codes]

    def add_simprints(self, prefix: bytes, simprints: Simprints, key: Key) -> None:
        """All of one type of an asset that had none."""
        self._simprints[prefix, simprints.width].append((key, simprints.packed))
        self._simprints_held += len(simprints)

    def remove(self, codes: Iterable[bytes], key: Key) -> None:
        self._removed += [(code, key) for code in codes]

    @property
    def size(self) -> int:
        """Postings that wait to be carried out."""
        return len(self._added) + len(self._removed) + self._simprints_held

    def carry_out(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        """Returns by how many bytes the postings grew. Removal comes first: a code that goes and comes at once gets a new row."""
        grown = self._remove(txn, store, columns, index) if self._removed else 0
        if self._added:
            self._added.sort()
            grown += self._add(txn, store, columns, index, self._added, [code for code, _ in groupby(self._added, itemgetter(0))])
        for (prefix, width), found in self._simprints.items():
            grown += self._add(txn, store, columns, index, *_sorted_postings(prefix, width, found))
        self._added, self._removed = [], []
        self._simprints.clear()
        self._simprints_held = 0
        return grown

    def _remove(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        self._removed.sort()
        for code, key in self._removed:
            txn.delete(code, key, db=store.postings)
        touched = [code for code, _ in groupby(self._removed, itemgetter(0))]
        with txn.cursor(db=store.postings) as cursor:
            alive = set(cursor.getmulti(touched, values=False))
        gone = [code for code in touched if code not in alive]
        for _, row, length, count in self._count(gone):
            row.codes[length] -= count
            column = columns.get((index, row.number, length))
            if column is not None:
                column.dead += count
        return -POSTING_BYTES * len(self._removed) - sum(map(len, gone))

    def _add(self, txn: Transaction, store: Store, columns: Columns, index: int, added: list[Posting], touched: list[bytes]) -> int:
        """`added` is sorted, `touched` are its codes, each once."""
        with txn.cursor(db=store.postings) as cursor:
            known = set(cursor.getmulti(touched, values=False))
            cursor.putmulti(added)
        new = [code for code in touched if code not in known] if known else touched
        self._append(txn, store, columns, index, new)
        return POSTING_BYTES * len(added) + sum(map(len, new))

    def _count(self, codes: list[bytes]) -> Iterator[tuple[str, TypeRow, int, int]]:
        """Type, body length and number of the codes."""
        for (prefix, size), count in Counter((code[:PREFIX_BYTES], len(code)) for code in codes).items():
            name, row = self._types[prefix]
            yield name, row, size - PREFIX_BYTES, count

    def _append(self, txn: Transaction, store: Store, columns: Columns, index: int, codes: list[bytes]) -> None:
        """Counts new codes and gives them rows, in the columns and in `tail`. INSTANCE needs none: it is found by prefix in `postings`."""
        with txn.cursor(db=store.tail) as cursor:
            for prefix, length, bodies in _by_column(codes):
                name, row = self._types[prefix]
                row.codes[length] = row.codes.get(length, 0) + len(bodies)
                if not has_no_column(name):
                    rows = columns.open((index, row.number, length)).append(bodies)
                    cursor.putmulti(tail_values(column_key(index, row.number, length), rows.start, bodies))


def _by_column(codes: list[bytes]) -> Iterator[tuple[bytes, int, list[bytes]]]:
    """Sorted codes as prefix, body length and bodies."""
    for prefix, found in groupby(codes, _PREFIX):
        bodies = [code[PREFIX_BYTES:] for code in found]
        lengths = set(map(len, bodies))
        for length in sorted(lengths):
            yield prefix, length, bodies if len(lengths) == 1 else [body for body in bodies if len(body) == length]


def _sorted_postings(prefix: bytes, width: int, simprints: list[tuple[Key, bytes]]) -> tuple[list[Posting], list[bytes]]:
    """The postings of packed simprints of one type, each once; and their codes, each once; both sorted."""
    stride = width + SIMPRINT_PLACE_BYTES
    packed = np.frombuffer(b"".join([packed for _, packed in simprints]), np.uint8).reshape(-1, stride)[:, :width]
    words = np.ascontiguousarray(packed).view(">u8").astype(np.uint64)
    keys = np.frombuffer(b"".join([key for key, _ in simprints]), ">u8").astype(np.uint64)
    keys = keys.repeat([len(packed) // stride for _, packed in simprints])
    order = words[:, 0].argsort()
    if (words[order[1:], 0] == words[order[:-1], 0]).any():
        order = np.lexsort((keys, *words.T[::-1]))
    words, keys = words[order], keys[order]
    same_code = _repeats(words)
    if same_code.any():
        once = np.concatenate(([True], ~(same_code & _repeats(keys[:, None]))))
        words, keys, same_code = words[once], keys[once], same_code[once[1:]]
    codes = _codes(prefix, words)
    distinct = [codes[0], *compress(codes[1:], ~same_code)] if same_code.any() else codes
    return list(zip(codes, _split(keys[:, None].astype(">u8").view(np.uint8)), strict=True)), distinct


def _repeats(rows: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For each row but the first, whether it equals the one before."""
    same: NDArray[np.bool_] = (rows[1:] == rows[:-1]).all(axis=1)
    return same


def _codes(prefix: bytes, words: NDArray[np.uint64]) -> list[bytes]:
    whole = np.empty((len(words), PREFIX_BYTES + words.shape[1] * WORD_BYTES), np.uint8)
    whole[:, :PREFIX_BYTES] = np.frombuffer(prefix, np.uint8)
    whole[:, PREFIX_BYTES:] = words.astype(">u8").view(np.uint8)
    return _split(whole)


def _split(rows: Bytes) -> list[bytes]:
    """Each row as bytes."""
    split: list[bytes] = rows.view(f"V{rows.shape[1]}").ravel().tolist()
    return split


def has_no_column(name: str) -> bool:
    """True for types that are matched by prefix in the postings alone. The name is that of the type with its kind."""
    return name.startswith("uINSTANCE")


_PREFIX = itemgetter(slice(PREFIX_BYTES))
