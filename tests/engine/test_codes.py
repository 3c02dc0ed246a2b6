"""Round trips and the rules of codes against iscc-core."""

from __future__ import annotations

import base64
import random

import iscc_core as ic  # type: ignore[import-untyped]  # it has no type hints
import pytest

from service.engine import codes
from service.engine.codes import CodeError
from service.engine.requests import Body, Key, Raw
from tests.engine.isccs import UNITS, random_code


def test_units_round_trip() -> None:
    """Every kind of unit is written as iscc-core writes it, and read back; type and body are those of iscc-core."""
    rng = random.Random(4)
    for main, sub in UNITS:
        for bits in (64, 128, 192, 256):
            body = rng.randbytes(bits // 8)
            text = "ISCC:" + ic.encode_component(main, sub, 0, bits, body)
            raw = codes.parse_unit(text)
            kind = "-".join(ic.iscc_type_id(text).split("-")[:3]).replace("-", "_")
            assert (codes.encode(raw), codes.unit_type(raw), codes.unit_body(raw)) == (text, kind, body)
            assert codes.decompose(raw) == [raw]


def test_decompose_equals_core() -> None:
    """The units of a code are those of iscc-core."""
    rng = random.Random(5)
    for _ in range(500):
        raw = random_code(rng)
        text = codes.encode(raw)
        assert codes.parse_code(text) == raw
        assert [codes.encode(unit)[5:] for unit in codes.decompose(raw)] == ic.iscc_decompose(text)


def test_compose_equals_core() -> None:
    """Units in any order, number, length and combination make the code that iscc-core makes of them, or none."""
    rng = random.Random(6)
    made = 0
    for _ in range(6000):
        units = random_units(rng)
        try:
            expected = str(ic.gen_iscc_code_v0([codes.encode(unit) for unit in units], wide=True)["iscc"])
        except ValueError:
            expected = ""
        raw = codes.compose(units)
        assert (codes.encode(raw) if raw is not None else "") == expected, units
        made += raw is not None
    assert 1500 < made < 5000


def random_units(rng: random.Random) -> list[Raw]:
    """Mostly sets that make a code: DATA, INSTANCE and some of the others, with now and then one too many or too few."""
    medium = rng.randrange(5)
    mains = [main for main in (0, 1, 2) if rng.random() < 0.45] + [main for main in (3, 4) if rng.random() < 0.93]
    if rng.random() < 0.1:
        mains.append(rng.randrange(5))
    rng.shuffle(mains)
    units = []
    for main in mains:
        sub = (medium if rng.random() < 0.95 else rng.randrange(5)) if main in (1, 2) else 0
        size = rng.choice((8, 16, 24, 32))
        units.append(Raw(bytes([main << 4 | sub, size // 4 - 1]) + rng.randbytes(size)))
    return units


def test_ids_round_trip() -> None:
    """An ISCC-ID of either realm is written as iscc-core writes it and read back, in lower case too when asked for."""
    rng = random.Random(7)
    for _ in range(2000):
        realm, key = rng.getrandbits(1), Key(rng.randbytes(8))
        text = codes.format_id(realm, key)
        assert text == "ISCC:" + ic.encode_base32(ic.encode_header(6, realm, 1, 0) + key)
        assert codes.parse_id(text) == codes.parse_id(text, fold=True) == (realm, key)
        assert codes.parse_id("ISCC:" + text[5:].lower(), fold=True) == (realm, key)


def test_id_fold_is_ascii_only() -> None:
    """Letters that become ASCII when upper-cased are not digits, and the prefix is never folded."""
    text = codes.format_id(0, Key(bytes(8)))
    for bad in (text.replace("MAI", "MA\u0131"), text[:-1] + "\u017f", text.lower(), "iscc:" + text[5:]):
        with pytest.raises(CodeError):
            codes.parse_id(bad, fold=True)
    with pytest.raises(CodeError):
        codes.parse_id("ISCC:" + text[5:].lower())


def test_simprints_round_trip() -> None:
    """Both alphabets, padded or not, give the bytes that iscc-core gives; written url-safe and unpadded."""
    rng = random.Random(8)
    for _ in range(2000):
        body = Body(rng.randbytes(rng.choice((8, 16, 24, 32))))
        text = codes.format_simprint(body)
        assert text == ic.encode_base64(body)
        for form in (
            text,
            base64.urlsafe_b64encode(body).decode(),
            base64.b64encode(body).decode(),
            base64.b64encode(body).decode().rstrip("="),
        ):
            assert codes.parse_simprint(form) == body


def test_simprint_unused_bits() -> None:
    """The unused bits of the last character are ignored, as iscc-core ignores them."""
    for text in ("AAECAwQFBgd", "A" * 21 + "P", "A" * 42 + "D"):
        assert codes.parse_simprint(text) == ic.decode_base64(text)


@pytest.mark.parametrize("name", ["CONTENT_TEXT_V0", "SEMANTIC_TEXT_V0", "text", "a", "my.type-2", "A" * 64])
def test_simprint_type_accepted(name: str) -> None:
    """Names that clients use are accepted."""
    codes.check_simprint_type(name)


@pytest.mark.parametrize("name", ["", "../x", "a/b", "1a", "_a", "a b", "é", "a\n", "A" * 65, "a\x00"])
def test_simprint_type_refused(name: str) -> None:
    """Anything that looks like a path, is empty, too long or not plain ASCII is refused with the rule."""
    with pytest.raises(CodeError, match="1 to 64 characters"):
        codes.check_simprint_type(name)
