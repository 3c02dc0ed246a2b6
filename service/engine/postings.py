"""Postings: code → asset keys. Adding and removing them for one request, and keeping count of which codes come and go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter

from service.engine.columns import Columns
from service.engine.requests import Key
from service.engine.store import Store, Transaction, TypeRow, column_key, posting_prefix, u64

POSTING_BYTES = 8
PREFIX_BYTES = 8


class PostingChanges:
    """What one request does to the postings of one index. Collected first, then carried out sorted, which is what makes LMDB quick."""

    def __init__(self) -> None:
        self._added: list[tuple[bytes, Key]] = []
        self._removed: list[tuple[bytes, Key]] = []
        self._types: dict[bytes, tuple[str, TypeRow]] = {}

    def add_type(self, name: str, index: int, row: TypeRow) -> bytes:
        """Every type is named before its codes. Returns what its codes begin with."""
        prefix = posting_prefix(index, row.number)
        self._types[prefix] = (name, row)
        return prefix

    def add(self, codes: Iterable[bytes], key: Key) -> None:
        self._added += [(code, key) for code in codes]

    def remove(self, codes: Iterable[bytes], key: Key) -> None:
        self._removed += [(code, key) for code in codes]

    @property
    def size(self) -> int:
        """Postings that wait to be carried out."""
        return len(self._added) + len(self._removed)

    def carry_out(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        """Returns by how many bytes the postings grew. Removal comes first: a code that goes and comes at once gets a new row."""
        grown = self._remove(txn, store, columns, index) if self._removed else 0
        if self._added:
            grown += self._add(txn, store, columns, index)
        self._added, self._removed = [], []
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

    def _add(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        self._added.sort()
        touched = [code for code, _ in groupby(self._added, itemgetter(0))]
        with txn.cursor(db=store.postings) as cursor:
            known = set(cursor.getmulti(touched, values=False))
            cursor.putmulti(self._added)
        new = [code for code in touched if code not in known] if known else touched
        for _, row, length, count in self._count(new):
            row.codes[length] = row.codes.get(length, 0) + count
        self._append(txn, store, columns, index, new)
        return POSTING_BYTES * len(self._added) + sum(map(len, new))

    def _count(self, codes: list[bytes]) -> Iterator[tuple[str, TypeRow, int, int]]:
        """Type, body length and number of the codes."""
        for (prefix, size), count in Counter((code[:PREFIX_BYTES], len(code)) for code in codes).items():
            name, row = self._types[prefix]
            yield name, row, size - PREFIX_BYTES, count

    def _append(self, txn: Transaction, store: Store, columns: Columns, index: int, codes: list[bytes]) -> None:
        """Rows for new codes, in the columns and in `tail`. INSTANCE needs none: it is found by prefix in the postings."""
        bodies: defaultdict[tuple[bytes, int], list[bytes]] = defaultdict(list)
        for code in codes:
            bodies[code[:PREFIX_BYTES], len(code) - PREFIX_BYTES].append(code[PREFIX_BYTES:])
        with txn.cursor(db=store.tail) as cursor:
            for (prefix, length), found in bodies.items():
                name, row = self._types[prefix]
                if not has_no_column(name):
                    rows = columns.open((index, row.number, length)).append(found)
                    place = column_key(index, row.number, length)
                    cursor.putmulti([(place + u64(number), body) for number, body in zip(rows, found, strict=True)])


def has_no_column(name: str) -> bool:
    """True for types that are matched by prefix in the postings alone. The name is that of the type with its kind."""
    return name.startswith("uINSTANCE")
