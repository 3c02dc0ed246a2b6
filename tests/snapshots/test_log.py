"""Log objects: what was frozen is thawed, and every kind of damage is noticed."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshots.errors import Corrupt
from snapshots.log import FENCE_BYTES_MAX, MAGIC, START, Header, LogObject, Place, Row, freeze, require_link, thaw

LINEAGE = "a" * 32
KEY = "v1/log/x.log"
NUMBERS = st.integers(1, 2**63)


def header(at: int, count: int, /, **other: int | str) -> Header:
    made = Header(LINEAGE, 3, "b" * 32, 7, "c" * 64, at, at + count - 1, count, 1_700_000_000_000_000, 12345)
    return msgspec.structs.replace(made, **other)


@st.composite
def objects(draw: st.DrawFn) -> tuple[Header, list[Row]]:
    bodies = draw(st.lists(st.binary(max_size=200), max_size=8))
    first = draw(NUMBERS)
    rows = [Row(first + number, draw(NUMBERS), body) for number, body in enumerate(bodies)]
    return header(first, len(rows), number=draw(NUMBERS)), rows


def frozen(**other: int | str) -> bytes:
    return freeze(header(10, 3, **other), [Row(10 + number, 5, b"row") for number in range(3)])[0]


def read(**other: int | str) -> LogObject:
    return thaw(KEY, frozen(**other))


@given(objects())
def test_round_trip(made: tuple[Header, list[Row]]) -> None:
    body, digest = freeze(*made)
    found = thaw(KEY, body)
    assert (found.header, found.rows, found.digest, found.size) == (*made, digest, len(body))
    assert hashlib.sha256(body[:-32]).hexdigest() == digest
    assert found.place == Place(made[0].number, digest, made[0].last, made[0].bytes_before + len(body))


@given(objects(), st.data())
def test_a_changed_byte_is_noticed(made: tuple[Header, list[Row]], data: st.DataObject) -> None:
    """Wherever it is."""
    body = bytearray(freeze(*made)[0])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(Corrupt):
        thaw(KEY, bytes(body))


@given(objects(), st.data())
def test_a_cut_is_noticed(made: tuple[Header, list[Row]], data: st.DataObject) -> None:
    body = freeze(*made)[0]
    with pytest.raises(Corrupt):
        thaw(KEY, body[: data.draw(st.integers(0, len(body) - 1))])


def resealed(body: bytes) -> bytes:
    """With the digest that the bytes have now."""
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "no log object"),
        (b"TPLOG002" + frozen()[8:], "one of a newer version"),
        (frozen() + b"x", "differs from its digest"),
        (resealed(MAGIC + b"\xff\xff\xff\xff" + bytes(64)), "cannot be read"),
        (resealed(MAGIC + b"\0\0\0\2{}" + bytes(64)), "cannot be read"),
        (resealed(frozen()[:-33]), "damaged"),
        (resealed(frozen()[:-35] + b"ROW"), "damaged"),
        (resealed(frozen()[:-32] + b"few"), "cannot be read"),
    ],
)
def test_what_is_no_log_object(body: bytes, words: str) -> None:
    """Also when the digest at the end is right: the object was written wrong, or is another thing."""
    with pytest.raises(Corrupt, match=words) as caught:
        thaw(KEY, body)
    assert KEY in str(caught.value)


@pytest.mark.parametrize("other", [{"rows": 2}, {"last": 13}, {"first": 9}, {"first": 11, "last": 13}])
def test_other_rows_than_the_header_says(other: dict[str, int]) -> None:
    with pytest.raises(Corrupt, match="other rows"):
        read(**other)


def test_a_fence_is_small() -> None:
    """However large its numbers are: who deletes log objects tells fences by their size first."""
    large = 2**64 - 1
    body, _ = freeze(Header("f" * 32, large, "f" * 32, large, "f" * 64, large, large - 1, 0, large, large), [])
    assert len(body) <= FENCE_BYTES_MAX
    assert thaw(KEY, body).rows == []


def test_links() -> None:
    """An object goes on where the one before ends, by number, digest and sequence."""
    found = read()
    require_link(found, LINEAGE, Place(6, "c" * 64, 9))
    for lineage, place, words in [
        ("d" * 32, Place(6, "c" * 64, 9), "not the one of its name"),
        (LINEAGE, Place(5, "c" * 64, 9), "not the one of its name"),
        (LINEAGE, Place(6, START, 9), "chain is broken"),
        (LINEAGE, Place(6, "c" * 64, 8), "gap"),
    ]:
        with pytest.raises(Corrupt, match=words):
            require_link(found, lineage, place)
