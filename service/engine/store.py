"""The LMDB environment: its tables, keys and rows, how it is made and what is checked before it is opened.

Everything that is stored is named here; nothing else imports lmdb. All integers in keys are big-endian, so that byte order is number order.

    meta       b"format" | b"sequence" | b"time" | b"next_index" -> 8 bytes; b"purge" + index(4) -> b""
    indexes    name -> IndexRow
    types      index(4) kind(1: u unit, s simprint) name -> TypeRow
    assets     index(4) key(8) -> StoredAsset as msgpack
    postings   index(4) type(4) body -> key(8), DUPSORT, DUPFIXED
    simprints  index(4) key(8) type(4) -> packed simprints, see `pack_simprints`
    tail       index(4) type(4) length(1) row(8) -> bodies of this row and those that follow, see `tail_values`
    segments   index(4) type(4) length(1) token(8) -> SegmentRow
    log        sequence(8) -> LogRow
"""

from __future__ import annotations

import gc
import mmap
import os
import shutil
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import msgspec

from service.engine.errors import Busy, Damaged, Fatal, NoSpace, Unwritable
from service.engine.files import sync_directory
from service.engine.graphs import GraphFile
from service.engine.requests import Body, Key, Request, Simprint, StoredAsset

FORMAT = 1
LMDB_ENGINE = "0.9"
PAGE_BYTES = min(mmap.PAGESIZE, 32_768)
"""What LMDB takes for a new file on this machine."""
MAP_BYTES = 1 << 40
READERS_MAX = 512
DISK_FULL_BYTES = 1 << 20  # below this a failed commit is put down to lack of space: LMDB says only "input/output error"
TABLES = ("meta", "indexes", "types", "assets", "postings", "simprints", "tail", "segments", "log")
TAIL_VALUE_BYTES = 1920  # a whole number of bodies of every length; two such values fill a page

_ADVICE = "it is damaged: move it away and restore a copy (`tidepool verify` tells more)"
_MAGIC = 0xBEEFC0DE
_VERSION = 1
_META_OFFSET = 16
_META_BYTES = 136
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_COLUMN = struct.Struct(">IIB")
_SIMPRINT_PLACE = struct.Struct(">II")

if TYPE_CHECKING:
    Transaction = lmdb.Transaction[bytes]
    Cursor = lmdb.Cursor[bytes]
else:  # lmdb's classes cannot be subscripted when they run
    Transaction = lmdb.Transaction
    Cursor = lmdb.Cursor
StoreError = lmdb.Error


class IndexRow(msgspec.Struct, array_like=True):
    """One index. `realm` is -1 until the first asset decides it. `record_bytes` counts records, postings and simprints; `types`
    is the number of the newest type."""

    number: int
    realm: int = -1
    assets: int = 0
    record_bytes: int = 0
    types: int = 0


class TypeRow(msgspec.Struct, array_like=True):
    """One type of an index. `codes` counts the codes that have postings, for each body length. `width` is that of a simprint type."""

    number: int
    width: int = 0
    codes: dict[int, int] = msgspec.field(default_factory=dict)


class SegmentRow(msgspec.Struct, array_like=True, frozen=True):
    """A sealed file and what it holds. `modified_ns` and `inode` tell whether it is still the file whose digest was checked."""

    rows: int
    digest: bytes
    modified_ns: int
    inode: int
    graphs: tuple[GraphFile, ...] = ()


class LogRow(msgspec.Struct, array_like=True, frozen=True):
    """One committed request."""

    time_us: int
    format: int
    request: Request


class LogHead(msgspec.Struct, array_like=True, frozen=True):
    """What can be read of a log row of any format."""

    time_us: int
    format: int


def u32(number: int) -> bytes:
    """Four bytes of a key."""
    return _U32.pack(number)


def u64(number: int) -> bytes:
    """Eight bytes of a key or a counter."""
    return _U64.pack(number)


def number_of(key: bytes) -> int:
    """The reverse of `u64`."""
    number: int = _U64.unpack(key)[0]
    return number


def column_key(index: int, type_number: int, length: int) -> bytes:
    """Prefix of the keys of `tail` and `segments`."""
    return _COLUMN.pack(index, type_number, length)


def parse_column_key(key: bytes) -> tuple[int, int, int]:
    """The reverse of `column_key`, from a whole key."""
    index, type_number, length = _COLUMN.unpack_from(key)
    return index, type_number, length


def posting_prefix(index: int, type_number: int) -> bytes:
    """Prefix of the keys of `postings`; a body follows."""
    return _U32.pack(index) + _U32.pack(type_number)


def tail_values(place: bytes, first: int, bodies: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Keys and values in `tail` for rows of one column from `first` on: several bodies in each, as many as fit into half a page."""
    length = len(bodies[0])
    packed, step = b"".join(bodies), TAIL_VALUE_BYTES // length
    return [(place + _U64.pack(first + at), packed[at * length : (at + step) * length]) for at in range(0, len(bodies), step)]


def parse_tail(key: bytes, value: bytes) -> tuple[int, list[bytes]]:
    """The reverse of `tail_values`, for one of them: its first row and its bodies."""
    _, _, length = parse_column_key(key)
    return _U64.unpack_from(key, _COLUMN.size)[0], [value[at : at + length] for at in range(0, len(value), length)]


def pack_simprints(simprints: Iterable[Simprint]) -> bytes:
    """The body and the place of each, one behind the other in the order given."""
    return b"".join([s.body + _SIMPRINT_PLACE.pack(s.offset, s.size) for s in simprints])


def unpack_simprints(packed: bytes, width: int) -> list[Simprint]:
    """The reverse of `pack_simprints`."""
    stride = width + _SIMPRINT_PLACE.size
    return [
        Simprint(Body(packed[at : at + width]), *_SIMPRINT_PLACE.unpack_from(packed, at + width)) for at in range(0, len(packed), stride)
    ]


def simprint_bodies(packed: bytes, width: int) -> set[bytes]:
    """The distinct bodies in a packed list."""
    return {packed[at : at + width] for at in range(0, len(packed), width + _SIMPRINT_PLACE.size)}


def simprint_places(packed: bytes, width: int, bodies: Iterable[bytes]) -> list[tuple[int, int]]:
    """Offset and size of the first of each of these bodies, all of which are in the packed list."""
    stride = width + _SIMPRINT_PLACE.size
    places = []
    for body in bodies:
        at = packed.index(body)
        while at % stride:  # across two simprints, or in a place
            at = packed.index(body, at + 1)
        places.append(_SIMPRINT_PLACE.unpack_from(packed, at + width))
    return places


index_rows = msgspec.msgpack.Decoder(IndexRow)
type_rows = msgspec.msgpack.Decoder(TypeRow)
segment_rows = msgspec.msgpack.Decoder(SegmentRow)
records = msgspec.msgpack.Decoder(StoredAsset)
log_rows = msgspec.msgpack.Decoder(LogRow)
log_heads = msgspec.msgpack.Decoder(LogHead)
encode = msgspec.msgpack.Encoder().encode


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
            needed = _needed_bytes(path)
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
        return {_U32.unpack(found[12:])[0]: value for found, value in prefixed(cursor, prefix)}


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


def check_header(path: Path) -> None:
    """What LMDB itself does not check before it maps a file: a cut file would be SIGBUS, an empty one silently a new index."""
    size, needed = path.stat().st_size, _needed_bytes(path)
    if needed > size:
        _accept_short(path, size, needed)


def _needed_bytes(path: Path) -> int:
    """Size that the header pages ask for."""
    if path.stat().st_size == 0:
        raise Damaged(f"{path} is empty; {_ADVICE}")
    with path.open("rb") as file:
        first = file.read(_META_OFFSET + _META_BYTES)
        page_size = _page_size(first)
        if page_size is None:
            raise Damaged(f"{path} is no LMDB file; {_ADVICE}")
        file.seek(page_size)
        second = file.read(_META_OFFSET + _META_BYTES)
    if _page_size(second) != page_size:
        raise Damaged(f"{path} has a damaged second header; {_ADVICE}")
    return (max(_last_page(first), _last_page(second)) + 1) * page_size


def _accept_short(path: Path, size: int, needed: int) -> None:
    """Pages at the end that one transaction took and freed are never written: a short file is whole when no page in use is missing."""
    if problems := lmdb_problems(path):
        raise Damaged(f"{path} has {size} bytes where its header needs {needed}: {problems[0]}; {_ADVICE}")
    os.truncate(path, needed)


def lmdb_problems(path: Path) -> list[str]:
    """What is structurally wrong with an LMDB file, read without mapping it: about 170 MB a second."""
    from lmdb import verify  # only when asked for: not needed to run

    try:
        return [str(problem) for problem in verify.verify(str(path), subdir=False)]  # type: ignore[no-untyped-call]  # lmdb has no types for it
    except verify.VerifyError as error:
        return [str(error)]


def _page_size(page: bytes) -> int | None:
    """Page size from a meta page, None when it is not one. The free table's pad field holds it."""
    if len(page) < _META_OFFSET + _META_BYTES:
        return None
    magic, version = struct.unpack_from("<II", page, _META_OFFSET)
    size: int = struct.unpack_from("<I", page, _META_OFFSET + 24)[0]
    return size if magic == _MAGIC and version == _VERSION and 512 <= size <= 65536 else None


def _last_page(page: bytes) -> int:
    last: int = struct.unpack_from("<Q", page, _META_OFFSET + 24 + 2 * 48)[0]
    return last
