"""The LMDB environment: how it is made, opened and copied, and its transactions. What stands in it: layout.py."""

from __future__ import annotations

import gc
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from service.engine.errors import Busy, Damaged, Fatal, NoSpace, Unwritable
from service.engine.files import sync_directory
from service.engine.header import check_header, needed_bytes
from service.engine.layout import (
    FORMAT,
    TABLES,
    log_heads,
    number_of,
    u32,
    u64,
)
from service.engine.requests import Key

LMDB_ENGINE = "0.9"
PAGE_BYTES = min(mmap.PAGESIZE, 32_768)
"""What LMDB takes for a new file on this machine."""
MAP_BYTES = 1 << 40
READERS_MAX = 512
DISK_FULL_BYTES = 1 << 20  # below this a failed commit is put down to lack of space: LMDB says only "input/output error"

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]
    Cursor = lmdb.Cursor[bytes]
else:  # lmdb's classes cannot be subscripted when they run
    Transaction = lmdb.Transaction
    Cursor = lmdb.Cursor
StoreError = lmdb.Error


class Store:
    """The open environment. Lives as long as the engine; any thread may read, one at a time may write. `readonly` is for a copy that
    nobody else has open."""

    def __init__(self, directory: Path, *, map_bytes: int = MAP_BYTES, readonly: bool = False) -> None:
        self.path = directory / "data.mdb"
        if not self.path.exists() and not readonly:
            create(directory, map_bytes)
        check_header(self.path)
        self._env = _open(directory, map_bytes, readonly=readonly)
        self.stale_readers = self._env.reader_check()
        """Places of readers that ended without a word, found and freed since the store was opened."""
        with self._env.begin() as txn:
            found = txn.get(b"format", db=self._env.open_db(b"meta", txn, create=False))
        if found != u64(FORMAT):
            self._env.close()
            raise Damaged(f"{self.path} has format {found!r}, this version reads {FORMAT}: run the version that wrote it")
        self.meta, self.indexes, self.types, self.assets = (self._env.open_db(name.encode(), create=False) for name in TABLES[:4])
        self.postings = self._env.open_db(b"postings", create=False, dupsort=True, dupfixed=True)
        self.simprints, self.tail, self.segments, self.log = (self._env.open_db(name.encode(), create=False) for name in TABLES[5:])

    def close(self) -> None:
        """Only after every reader and writer has ended."""
        self._env.close()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A snapshot of everything committed."""
        txn = self._begin_read()
        try:
            yield txn
        finally:
            txn.abort()

    def _begin_read(self) -> Transaction:
        """LMDB frees the place of a reader only with the object, so transactions in forgotten cycles are collected before giving up."""
        try:
            return self._env.begin()
        except lmdb.ReadersFullError:
            gc.collect()
        try:
            return self._env.begin()
        except lmdb.ReadersFullError as error:
            raise Busy(f"more than {READERS_MAX} reads at a time: send the request again") from error

    @contextmanager
    def write(self, disk_free_min: int) -> Iterator[Transaction]:
        """One transaction with fsync. Lack of space aborts it and raises NoSpace; any other failure of the commit raises Fatal."""
        self.require_room(disk_free_min)
        txn = self._env.begin(write=True)
        try:
            yield txn
            txn.commit()
        except lmdb.MapFullError as error:
            txn.abort()
            raise NoSpace(f"the store {self.path} has reached its largest size of {self._env.info()['map_size']} bytes") from error
        except lmdb.Error as error:
            txn.abort()
            self.require_room(max(disk_free_min, DISK_FULL_BYTES))
            raise Fatal(f"cannot write {self.path}: {error}") from error
        except BaseException:
            txn.abort()
            raise

    @contextmanager
    def child(self, parent: Transaction) -> Iterator[Transaction]:
        """A transaction inside another: what it did is undone when its block raises."""
        with self._env.begin(write=True, parent=parent) as txn:
            yield txn

    def require_room(self, disk_free_min: int) -> None:
        """Raises NoSpace when the disk has less than `disk_free_min` bytes left."""
        lack = self.lack_of_room(disk_free_min)
        if lack is not None:
            raise lack

    def lack_of_room(self, disk_free_min: int) -> NoSpace | None:
        """The error for a disk that has less than `disk_free_min` bytes left. Cheap enough for every commit."""
        free = _free_bytes(self.path.parent)
        if free < disk_free_min:
            return NoSpace(
                f"the disk of {self.path.parent} has {free >> 20} MB left and {disk_free_min >> 20} MB are kept free "
                "(ISCC_SEARCH_DISK_FREE_MIN_BYTES): nothing was stored; free space and send the request again"
            )
        return None

    def copy(self, target: Path) -> None:
        """The file as it is at one transaction, fsynced, in a directory that has none. Writers wait for two pages of it. Raises NoSpace or
        Unwritable, and may leave a part."""
        self.stale_readers += self._env.reader_check()
        path = target / "data.mdb"
        try:
            self._env.copy(str(target))
        except lmdb.Error as error:
            if isinstance(error, lmdb.DiskError) or _free_bytes(target) < DISK_FULL_BYTES:
                raise NoSpace(f"cannot write {path}: {error}; free space on the disk") from error
            raise Unwritable(f"cannot write {path}: {error}") from error
        with path.open("r+b") as file:
            needed = needed_bytes(path)
            if file.seek(0, os.SEEK_END) < needed:  # pages at the end that one transaction took and freed
                file.truncate(needed)
            os.fsync(file.fileno())

    @property
    def lmdb_version(self) -> str:
        """Of the engine that reads and writes the file."""
        return ".".join(map(str, self._env.lib_version()))

    @property
    def page_bytes(self) -> int:
        return self._env.stat()["psize"]

    def file_bytes(self) -> int:
        """Size of the LMDB file."""
        return self.path.stat().st_size


def _free_bytes(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def sequence_of(txn: Transaction, store: Store) -> int:
    """Number of the last committed request that this transaction sees."""
    value = txn.get(b"sequence", db=store.meta)
    return number_of(value) if value else 0


def put_sequence(txn: Transaction, store: Store, sequence: int, time_us: int) -> None:
    """`sequence` is the last request, committed at that time."""
    txn.put(b"sequence", u64(sequence), db=store.meta)
    txn.put(b"time", u64(time_us), db=store.meta)


def time_of(txn: Transaction, store: Store) -> int:
    """Commit time of the last request in µs, 0 when it is not known. Its log row is asked first: older versions wrote only that."""
    row = txn.get(u64(sequence_of(txn, store)), db=store.log)
    if row is not None:
        return log_heads.decode(row).time_us
    value = txn.get(b"time", db=store.meta)
    return number_of(value) if value else 0


def next_index_number(txn: Transaction, store: Store) -> int:
    """A number that was never used and never will be again."""
    number = number_of(txn.get(b"next_index", u64(1), db=store.meta))
    txn.put(b"next_index", u64(number + 1), db=store.meta)
    return number


def prefixed(cursor: Cursor, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys that begin with `prefix`, with their values, in order."""
    if not cursor.set_range(prefix):
        return
    for key, value in cursor.iternext(keys=True, values=True):
        if not key.startswith(prefix):
            return
        yield key, value


def distinct_keys(cursor: Cursor, prefix: bytes) -> Iterator[bytes]:
    """The keys of a table with doubles that begin with `prefix`, each once."""
    if not cursor.set_range(prefix):
        return
    for key in cursor.iternext_nodup(keys=True, values=False):
        if not key.startswith(prefix):
            return
        yield key


def asset_simprints(txn: Transaction, store: Store, index: int, key: Key) -> dict[int, bytes]:
    """The packed simprints of an asset by type number."""
    prefix = u32(index) + key
    with txn.cursor(db=store.simprints) as cursor:
        return {int.from_bytes(found[12:], "big"): value for found, value in prefixed(cursor, prefix)}


def _open(directory: Path, map_bytes: int, *, readonly: bool = False) -> lmdb.Environment:
    path = str(directory / "data.mdb")
    try:
        return lmdb.open(
            str(directory),
            map_size=map_bytes,
            max_dbs=len(TABLES),
            max_readers=READERS_MAX,
            meminit=True,
            readonly=readonly,
            lock=not readonly,
            lib_version=0,
        )
    except lmdb.Error as error:
        raise Damaged(f"{path} cannot be opened: {error}; move it away and restore a copy") from error


def create(directory: Path, map_bytes: int = MAP_BYTES) -> None:
    """Makes the environment whole under another name first: a crash leaves no half of it behind."""
    if directory.exists() and any(directory.iterdir()):
        raise Damaged(
            f"{directory / 'data.mdb'} is missing, but other files of the index are there: put the file back, "
            f"or move {directory} away to start empty"
        )
    temporary = directory.with_name(directory.name + ".new")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    env = _open(temporary, map_bytes)
    with env.begin(write=True) as txn:
        for name in TABLES:
            doubles = name == "postings"
            env.open_db(name.encode(), txn, dupsort=doubles, dupfixed=doubles)
        txn.put(b"format", u64(FORMAT), db=env.open_db(b"meta", txn))
    env.close()
    sync_directory(temporary)
    if directory.exists():
        directory.rmdir()
    temporary.rename(directory)
    sync_directory(directory.parent)
