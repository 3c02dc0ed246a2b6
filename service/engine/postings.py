"""Postings: code → asset keys. Adding and removing them for one request, and keeping count of which codes come and go."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from operator import itemgetter

from service.engine.columns import Columns
from service.engine.requests import Key
from service.engine.store import Store, Transaction, TypeRow, column_key, posting_prefix, u64

Code = tuple[str, bytes]
"""Type name with its kind (`uCONTENT_TEXT_V0`, `sCONTENT_TEXT_V0`) and body."""
POSTING_BYTES = 8
PREFIX_BYTES = 8


class PostingChanges:
    """What one request does to the postings of one index. Collected first, then carried out sorted, which is what makes LMDB quick."""

    def __init__(self) -> None:
        self._added: list[tuple[bytes, Key]] = []
        self._removed: list[tuple[bytes, Key]] = []
        self._prefixes: dict[str, bytes] = {}
        self._types: dict[bytes, tuple[str, TypeRow]] = {}

    def add_type(self, name: str, index: int, row: TypeRow) -> None:
        """Every type is named before its codes."""
        if name not in self._prefixes:
            prefix = posting_prefix(index, row.number)
            self._prefixes[name] = prefix
            self._types[prefix] = (name, row)

    def add(self, code: Code, key: Key) -> None:
        self._added.append((self._prefixes[code[0]] + code[1], key))

    def remove(self, code: Code, key: Key) -> None:
        self._removed.append((self._prefixes[code[0]] + code[1], key))

    def carry_out(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        """Returns by how many bytes the postings grew. Removal comes first: a code that goes and comes in one request gets a new row."""
        grown = self._remove(txn, store, columns, index) if self._removed else 0
        if self._added:
            grown += self._add(txn, store, columns, index)
        return grown

    def _remove(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        self._removed.sort()
        for code, key in self._removed:
            txn.delete(code, key, db=store.postings)
        touched = [code for code, _ in groupby(self._removed, itemgetter(0))]
        with txn.cursor(db=store.postings) as cursor:
            alive = set(cursor.getmulti(touched, values=False))
        gone = [code for code in touched if code not in alive]
        self._count(gone, -1)
        for code in gone:
            column = columns.get((index, self._types[code[:PREFIX_BYTES]][1].number, len(code) - PREFIX_BYTES))
            if column is not None:
                column.dead += 1
        return -POSTING_BYTES * len(self._removed) - sum(map(len, gone))

    def _add(self, txn: Transaction, store: Store, columns: Columns, index: int) -> int:
        self._added.sort()
        touched = [code for code, _ in groupby(self._added, itemgetter(0))]
        with txn.cursor(db=store.postings) as cursor:
            known = set(cursor.getmulti(touched, values=False))
            cursor.putmulti(self._added)
        new = [code for code in touched if code not in known]
        self._count(new, 1)
        self._append(txn, store, columns, index, new)
        return POSTING_BYTES * len(self._added) + sum(map(len, new))

    def _count(self, codes: list[bytes], change: int) -> None:
        for code in codes:
            counts = self._types[code[:PREFIX_BYTES]][1].codes
            length = len(code) - PREFIX_BYTES
            counts[length] = counts.get(length, 0) + change

    def _append(self, txn: Transaction, store: Store, columns: Columns, index: int, codes: list[bytes]) -> None:
        """Rows for new codes, in the columns and in `tail`. INSTANCE needs none: it is found by prefix in the postings."""
        bodies: defaultdict[tuple[int, int], list[bytes]] = defaultdict(list)
        for code in codes:
            name, row = self._types[code[:PREFIX_BYTES]]
            if not has_no_column(name):
                bodies[row.number, len(code) - PREFIX_BYTES].append(code[PREFIX_BYTES:])
        with txn.cursor(db=store.tail) as cursor:
            for (type_number, length), found in bodies.items():
                rows = columns.open((index, type_number, length)).append(found)
                prefix = column_key(index, type_number, length)
                cursor.putmulti([(prefix + u64(row), body) for row, body in zip(rows, found, strict=True)])


def has_no_column(name: str) -> bool:
    """True for types that are matched by prefix in the postings alone."""
    return name.startswith("uINSTANCE")
