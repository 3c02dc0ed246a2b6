"""Log objects: runs of rows, chained by digest.

    TPLOG001                          8 bytes
    length of the header              4 bytes, big-endian
    header                            JSON of `Header`
    rows, each                        sequence (8), time in µs (8), length (4), CRC-32 of the bytes (4), bytes
    SHA-256 of everything before      32 bytes: the name of this object in the chain

A fence is an object without rows: `last` is `first - 1`, and `first` is the sequence that the next row will have.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence

import msgspec

from snapshots.errors import Corrupt

MAGIC = b"TPLOG001"
DIGEST_BYTES = 32
START = "0" * 64
"""What the first object of a lineage has as `previous`."""
FENCE_BYTES_MAX = 1024
_LENGTH = struct.Struct(">I")
_ROW = struct.Struct(">QQII")


class Row(msgspec.Struct, frozen=True):
    """One committed request, as the engine stores it."""

    sequence: int
    time_us: int
    data: bytes


class Header(msgspec.Struct, frozen=True):
    """What a log object says of itself."""

    lineage: str
    epoch: int
    writer: str
    number: int
    previous: str
    first: int
    last: int
    rows: int
    created_us: int
    bytes_before: int = 0
    """Bytes of all log objects of the lineage before this one: says what a replay would cost. Nothing depends on it."""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The end of a log object: its number, its digest, and the sequence of the last row up to there."""

    number: int
    digest: str
    sequence: int
    bytes: int = 0
    """Of all log objects up to there."""


class LogObject(msgspec.Struct, frozen=True):
    """A log object that was read and found whole."""

    header: Header
    rows: list[Row]
    digest: str
    size: int

    @property
    def place(self) -> Place:
        return Place(self.header.number, self.digest, self.header.last, self.header.bytes_before + self.size)


def freeze(header: Header, rows: Sequence[Row]) -> tuple[bytes, str]:
    """The bytes of an object, and its digest."""
    head = msgspec.json.encode(header)
    parts = [MAGIC, _LENGTH.pack(len(head)), head]
    for row in rows:
        parts.append(_ROW.pack(row.sequence, row.time_us, len(row.data), zlib.crc32(row.data)))
        parts.append(row.data)
    body = b"".join(parts)
    digest = hashlib.sha256(body)
    return body + digest.digest(), digest.hexdigest()


def thaw(key: str, data: bytes) -> LogObject:
    """Reads an object and checks everything that it says of itself. Raises Corrupt."""
    body, digest = memoryview(data)[:-DIGEST_BYTES], data[-DIGEST_BYTES:]
    if len(data) < len(MAGIC) + _LENGTH.size + DIGEST_BYTES or data[: len(MAGIC)] != MAGIC:
        raise Corrupt(f"no log object, or one of a newer version key={key} bytes={len(data)}")
    if hashlib.sha256(body).digest() != digest:
        raise Corrupt(f"log object differs from its digest key={key} bytes={len(data)}")
    start = len(MAGIC) + _LENGTH.size
    header_bytes = _LENGTH.unpack_from(body, len(MAGIC))[0]
    try:
        header = msgspec.json.decode(body[start : start + header_bytes], type=Header)
        rows = list(_rows(body, start + header_bytes))
    except (msgspec.DecodeError, struct.error, ValueError) as error:
        raise Corrupt(f"log object cannot be read key={key}: {error}") from error
    _check(key, header, rows)
    return LogObject(header, rows, digest.hex(), len(data))


def _rows(body: memoryview, at: int) -> list[Row]:
    rows = []
    while at < len(body):
        sequence, time_us, length, crc = _ROW.unpack_from(body, at)
        at += _ROW.size
        data = bytes(body[at : at + length])
        if len(data) != length or zlib.crc32(data) != crc:
            raise ValueError(f"row {sequence} is damaged")
        rows.append(Row(sequence, time_us, data))
        at += length
    return rows


def _check(key: str, header: Header, rows: list[Row]) -> None:
    expected = list(range(header.first, header.last + 1))
    if header.rows != len(rows) or [row.sequence for row in rows] != expected:
        raise Corrupt(f"log object has other rows than its header says key={key} rows={len(rows)} header={header.rows}")


def require_link(found: LogObject, lineage: str, before: Place) -> None:
    """Raises Corrupt when the object does not go on where `before` ends."""
    header = found.header
    if header.lineage != lineage or header.number != before.number + 1:
        raise Corrupt(f"log object is not the one of its name lineage={header.lineage} number={header.number} expected={before.number + 1}")
    if header.previous != before.digest:
        raise Corrupt(f"log chain is broken number={header.number} previous={header.previous[:16]} expected={before.digest[:16]}")
    if header.first != before.sequence + 1:
        raise Corrupt(f"log has a gap number={header.number} first={header.first} expected={before.sequence + 1}")
