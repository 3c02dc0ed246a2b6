"""Simprints from JSON to packed bytes: the quick way takes nothing that the strict decoder refuses, and gives the same for the rest."""

from __future__ import annotations

import random
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from service.api import decode
from service.api.access import Limits
from service.api.errors import Unprocessable
from service.api.schema import Chunks
from service.engine import codes
from service.engine.codes import CodeError
from service.engine.layout import pack_simprints, unpack_simprints
from service.engine.requests import AddAssets, Simprint

# Where no compiler is, the package installs without it, and all is read by the strict decoder. In CI a skip is a failure.
_chunks = pytest.importorskip("service.api._chunks", reason="the C part was not built: install a compiler, then the package again")

STRICT = msgspec.json.Decoder(dict[str, Chunks])
Packed = dict[str, tuple[int, bytes]]


def strictly(text: bytes) -> Packed | None:
    """What the strict decoder makes of it; None when it refuses."""
    try:
        types = STRICT.decode(text)
        result = {}
        for name, chunks in types.items():
            simprints = [Simprint(codes.parse_simprint(chunk.simprint), chunk.offset, chunk.size) for chunk in chunks]
            (width,) = {len(simprint.body) for simprint in simprints}
            result[name] = (width, pack_simprints(simprints))
    except (msgspec.DecodeError, UnicodeDecodeError, CodeError, ValueError):
        return None
    return result


def chunk(rng: random.Random, width: int) -> dict[str, Any]:
    """Members in any order, numbers up to the largest, either alphabet, with and without padding."""
    text = rng.choice((b64encode, urlsafe_b64encode))(rng.randbytes(width)).decode()
    members = [
        ("simprint", text.rstrip("=") if rng.random() < 0.7 else text),
        ("offset", rng.choice((0, 7, 4294967295, rng.getrandbits(32)))),
        ("size", rng.choice((0, 10, 4294967295, rng.getrandbits(16)))),
    ]
    rng.shuffle(members)
    return dict(members)


def plain(rng: random.Random) -> bytes:
    """Types of one width each."""
    types = {
        f"T{number}": [chunk(rng, width) for _ in range(rng.randrange(1, 9))] for number, width in enumerate(rng.sample((8, 16, 24, 32), 2))
    }
    text = msgspec.json.encode(types)
    return msgspec.json.format(text, indent=rng.randrange(3)) if rng.random() < 0.3 else text


def mutated(rng: random.Random, text: bytes) -> bytes:
    """With some bytes changed, dropped, doubled or moved."""
    changed = bytearray(text)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed))
        match rng.randrange(4):
            case 0:
                changed[at] = rng.choice(b'{}[],:"=\\ 09-.eE+/_AZaz\xc3\x00\n')
            case 1:
                del changed[at : at + rng.choice((1, 1, 2, 11))]
            case 2:
                changed[at:at] = rng.choice((b" ", b"0", b"=", b",", b'"', b"\\u0041", b"A", b"1.0", b'"size":1,', b"null"))
            case _:
                changed[at:at] = changed[at : at + rng.randrange(1, 60)]
    return bytes(changed) or b" "


@pytest.mark.parametrize("seed", range(20))
def test_plain_simprints_are_packed_as_the_strict_decoder_reads_them(seed: int) -> None:
    """Every valid width, alphabet, order of members and spacing is taken."""
    rng = random.Random(seed)
    for _ in range(100):
        text = plain(rng)
        packed = _chunks.pack(text)
        assert packed is not None
        assert packed == strictly(text)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_taken_is_right(seed: int) -> None:
    """Of texts with faults only those are taken that the strict decoder takes, with the same result; some of each kind are met."""
    rng = random.Random(seed)
    taken = refused = 0
    for _ in range(1_500):
        text = mutated(rng, plain(rng))
        packed = _chunks.pack(text)
        if packed is not None:
            assert packed == strictly(text), text
            taken += 1
        else:
            refused += 1
    assert taken > 10
    assert refused > 1_000


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"X":[]}',
        b'{"X":[{}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":0}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":0,"size":1,"size":2}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":00,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":-1,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":4294967296,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":99999999999999999999999,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAAA","offset":0,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAA==","offset":0,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAA!","offset":0,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":0,"size":1},{"simprint":"AAAAAAAAAAAAAAAAAAAAAA","offset":0,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":0,"size":1}],"X":[{"simprint":"AAAAAAAAAAA","offset":0,"size":1}]}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":0,"size":1}]}}',
        b'{"X":[{"simprint":"AAAAAAAAAAA","offset":0,"size":1},]}',
    ],
)
def test_what_is_not_plain_is_left_to_the_strict_decoder(text: bytes) -> None:
    """Nothing of it is taken."""
    assert _chunks.pack(text) is None


def test_text_that_ends_too_early_is_not_taken() -> None:
    """Wherever it is cut; nothing is read beyond the end."""
    text = plain(random.Random(1))
    assert _chunks.pack(text) is not None
    for end in range(len(text.rstrip())):
        assert _chunks.pack(text[:end]) is None


def test_an_object_without_types_is_plain() -> None:
    """It says that the asset's simprints are removed."""
    assert _chunks.pack(b" { } ") == {}


def body(simprints: str) -> bytes:
    return f'[{{"iscc_id":"ISCC:MAIGBISBQHSAAEAB","units":null,"simprints":{simprints},"metadata":{{"a":1}}}}]'.encode()


def added(simprints: str) -> AddAssets:
    return decode.decode_assets("a", body(simprints), Limits())


def test_both_ways_make_the_same_request() -> None:
    """An escape in a name sends an asset through the strict decoder."""
    quick = added('{"X":[{"simprint":"mDm7J-DD7Ao","offset":1,"size":2},{"simprint":"AAAAAAAAAAA=","offset":3,"size":4}]}')
    assert quick == added('{"X":[{"simprin\\u0074":"mDm7J-DD7Ao","offset":1,"size":2},{"simprint":"AAAAAAAAAAA","offset":3,"size":4}]}')
    packed = (quick.assets[0].simprints or {})["X"]
    assert len(packed) == 2
    assert [(s.offset, s.size) for s in unpack_simprints(packed.packed, packed.width)] == [(1, 2), (3, 4)]
    assert added("null").assets[0].simprints is None
    assert added("{}").assets[0].simprints == {}


def good(number: int) -> str:
    return ",".join(['{"simprint":"AAAAAAAAAAA","offset":0,"size":1}'] * number)


@pytest.mark.parametrize(
    ("simprints", "place"),
    [
        (lambda: f'{{"X":[{good(2)},{{"simprint":"AAAAAAAAAA!","offset":0,"size":1}}]}}', ["simprints", "X", 2, "simprint"]),
        (lambda: f'{{"X":[{good(1)},{{"simprint":"AAAAAAAAAAAA","offset":0,"size":1}}]}}', ["simprints", "X", 1, "simprint"]),
        (lambda: f'{{"X":[{good(1)},{{"simprint":"AAAAAAAAAAA","offset":-1,"size":1}}]}}', ["simprints", "X", 1, "offset"]),
        (lambda: f'{{"X":[{good(1)},{{"simprint":"AAAAAAAAAAA","offset":0,"size":4294967296}}]}}', ["simprints", "X", 1, "size"]),
        (lambda: f'{{"X":[{good(1)}],"X":[],"Y":[{good(1)}]}}', ["simprints", "X"]),
        (lambda: f'{{"1":[{good(1)}]}}', ["simprints", "1"]),
        (lambda: f'{{"X":[{good(100_001)}]}}', ["simprints"]),
    ],
)
def test_faults_are_named_by_their_place(simprints: Callable[[], str], place: list[str | int]) -> None:
    """The quick way hides no place from the client."""
    with pytest.raises(Unprocessable) as refused:
        added(simprints())
    assert refused.value.problems[0].loc == ["body", 0, *place]
