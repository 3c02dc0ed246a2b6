"""What is stored: the tables, their keys and rows, and how simprints are packed.

All integers in keys are big-endian, so that byte order is number order.

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

import struct
from collections.abc import Iterable

import msgspec

from service.engine.graphs import GraphFile
from service.engine.requests import Body, Request, Simprint, StoredAsset

FORMAT = 1
TABLES = ("meta", "indexes", "types", "assets", "postings", "simprints", "tail", "segments", "log")
TAIL_VALUE_BYTES = 1920  # a whole number of bodies of every length; two such values fill a page

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_COLUMN = struct.Struct(">IIB")
_SIMPRINT_PLACE = struct.Struct(">II")


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
