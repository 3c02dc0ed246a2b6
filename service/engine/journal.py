"""The operation log as others see it: reading it, counting what is in it, dropping what nobody needs any more.

A row is written in the transaction of its request (`group.py`). It is released by whoever has kept it elsewhere, and deleted later: in
the transactions of the next commits, or by the background when none come. What is released is remembered in memory only: after a start
every row in the table counts as needed until it is released again.
"""

from __future__ import annotations

import threading
import time

import msgspec

from service.engine.errors import Damaged
from service.engine.layout import log_heads, number_of, u64
from service.engine.store import Store, Transaction, put_sequence, sequence_of, time_of

TRIM_ROWS = 2_000
"""Rows that one transaction deletes: a commit must not wait for more. A group that writes many deletes up to twice as many."""
IDLE_S = 1.0
"""So long after the last commit and the last release the background deletes what no commit took with it."""


class LogRecord(msgspec.Struct, frozen=True):
    """One row: `data` is the encoded row as it is stored (time, format, request)."""

    sequence: int
    time_us: int
    data: bytes


class LogPlace(msgspec.Struct, frozen=True):
    """Which row, and when it was committed."""

    sequence: int
    time_us: int


class Journal:
    """Lives as long as the engine. `trim`, `trimmed` and `committed` are called while the writing lock is held, the rest by any thread."""

    def __init__(self, store: Store, *, keep: bool, idle_s: float = IDLE_S) -> None:
        self._store = store
        self._keep = keep
        self._idle_s = idle_s
        self._guard = threading.Lock()
        self._touched = time.monotonic()
        self._released = 0
        self.bytes = 0
        """Bytes of the rows that are not released."""
        self.first: LogPlace | None = None
        """The oldest row that is not released."""
        self._oldest: int | None = None
        self._read_all()

    def _read_all(self) -> None:
        with self._store.read() as txn, txn.cursor(db=self._store.log) as cursor:
            self.sequence = sequence_of(txn, self._store)
            self._oldest = number_of(cursor.key()) if cursor.first() else None
            if self._keep and self._oldest is not None:
                self.first = LogPlace(self._oldest, log_heads.decode(cursor.value()).time_us)
                self.bytes = sum(len(value) for value in cursor.iternext(keys=False, values=True))

    def after(self, sequence: int, bytes_max: int) -> list[LogRecord]:
        """Rows behind `sequence` that are not released, in order: at most `bytes_max` bytes of them, but at least one if there is one."""
        found: list[LogRecord] = []
        room = bytes_max
        with self._store.read() as txn, txn.cursor(db=self._store.log) as cursor:
            if cursor.set_range(u64(max(sequence, self._released) + 1)):
                for key, value in cursor.iternext():
                    room -= len(value)
                    if found and room < 0:
                        break
                    found.append(LogRecord(number_of(key), log_heads.decode(value).time_us, value))
        return found

    def release(self, sequence: int) -> None:
        """Rows up to `sequence` are not needed any more. May be called twice."""
        with self._guard:
            if sequence > self.sequence:
                raise Damaged(f"log rows were released that are not there released={sequence} last={self.sequence}")
            if not self._keep or sequence <= self._released:
                return
            total, self.first = self._read_until(sequence)
            self.bytes -= total
            self._released = sequence
            self._touched = time.monotonic()

    def _read_until(self, sequence: int) -> tuple[int, LogPlace | None]:
        """Bytes of the rows that are released now, and the first one behind them."""
        total = 0
        with self._store.read() as txn, txn.cursor(db=self._store.log) as cursor:
            if cursor.set_range(u64(self._released + 1)):
                for key, value in cursor.iternext():
                    if number_of(key) > sequence:
                        return total, LogPlace(number_of(key), log_heads.decode(value).time_us)
                    total += len(value)
        return total, None

    def trim(self, txn: Transaction, written: int = 0) -> int | None:
        """Deletes some of the rows that are released, inside a group that wrote `written` rows. Returns the oldest that is left, for
        `trimmed` after the commit."""
        last = self._released if self._keep else self.sequence
        if self._oldest is None or self._oldest > last:
            return self._oldest
        sequence = sequence_of(txn, self._store)
        if last >= sequence:  # the row that an older version took the time from may go
            put_sequence(txn, self._store, sequence, time_of(txn, self._store))
        with txn.cursor(db=self._store.log) as cursor:
            found = cursor.first()
            for _ in range(max(TRIM_ROWS, 2 * written)):
                if not found or number_of(cursor.key()) > last:
                    break
                found = cursor.delete() and bool(cursor.key())
            return number_of(cursor.key()) if found else None

    def trimmed(self, oldest: int | None) -> None:
        """What `trim` did is committed."""
        self._oldest = oldest

    def committed(self, sequence: int, first: LogPlace | None, written_bytes: int) -> None:
        """Rows from `first` to `sequence` were committed; without `first` the requests came from elsewhere and have no rows."""
        with self._guard:
            self.sequence = sequence
            self._touched = time.monotonic()
            if first is not None and self._oldest is None:
                self._oldest = first.sequence
            if self._keep and first is not None:
                self.bytes += written_bytes
                self.first = self.first or first

    @property
    def has_waste(self) -> bool:
        """True when released rows are left and no commit came for a while."""
        waste = self._oldest is not None and self._oldest <= self._released
        return waste and time.monotonic() - self._touched >= self._idle_s
