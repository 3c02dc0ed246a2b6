"""A few searches and their answers at one moment: what a copy of the data must answer too."""

from __future__ import annotations

import random

import msgspec

from service.engine.layout import IndexRow, index_rows, number_of, u32, u64
from service.engine.requests import Key
from service.engine.store import Cursor, Store, Transaction

KEY_BYTES = 8
SAMPLE_LIMIT = 10


class Asked(msgspec.Struct, frozen=True):
    """A search for what is like one stored asset."""

    index: str
    realm: int
    key: Key


class Sample(msgspec.Struct, frozen=True):
    """All at one sequence. `counts` has the assets of each index; answers are encoded."""

    sequence: int
    counts: dict[str, int]
    queries: list[Asked]
    answers: list[bytes]


def stored_indexes(txn: Transaction, store: Store) -> dict[str, IndexRow]:
    with txn.cursor(db=store.indexes) as cursor:
        return {name.decode(): index_rows.decode(value) for name, value in cursor.iternext()}


def choose(txn: Transaction, store: Store, count: int, seed: int) -> list[Asked]:
    """Some assets of each index, by chance. An index that has few may give fewer."""
    chance = random.Random(seed)  # noqa: S311 - a sample, not a secret
    chosen: dict[tuple[str, Key], Asked] = {}
    with txn.cursor(db=store.assets) as cursor:
        for name, row in stored_indexes(txn, store).items():
            prefix = u32(row.number)
            first, last = _ends(cursor, prefix) if row.assets else (1, 0)
            for _ in range(count if first <= last else 0):
                cursor.set_range(prefix + u64(chance.randint(first, last)))
                key = Key(cursor.key()[len(prefix) :])
                chosen[name, key] = Asked(name, row.realm, key)
    return list(chosen.values())


def _ends(cursor: Cursor, prefix: bytes) -> tuple[int, int]:
    """The first and the last asset key of an index that has assets, as numbers."""
    cursor.set_range(prefix)
    first = number_of(cursor.key()[len(prefix) :])
    if cursor.set_range(prefix + b"\xff" * (KEY_BYTES + 1)):
        cursor.prev()
    else:
        cursor.last()
    return first, number_of(cursor.key()[len(prefix) :])
