"""ISCC text and ISCC bytes: parsing, writing, taking a code apart and putting one together.

An ISCC is `ISCC:` and base32 (A-Z2-7, upper case, no padding) of two header bytes and a body. The header has four nibbles: main type,
sub type, version, length. A string is accepted exactly when it is canonical, its header is valid for the place where it stands and its
body has the length that the header says. Simprints are bodies without header in base64.
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence

from service.engine import faults
from service.engine.errors import EngineError
from service.engine.requests import Body, Key, Raw

META, SEMANTIC, CONTENT, DATA, INSTANCE, ISCC, ID = range(7)
SUM, NONE, WIDE = 5, 6, 7  # sub types of codes without SEMANTIC and CONTENT; WIDE holds 128 bits of DATA and of INSTANCE instead of 64
_BASE32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


class CodeError(EngineError):
    """A string is no acceptable ISCC, ISCC-ID, simprint or type name. The text says what is wrong and how to put it right."""


def parse_unit(text: str) -> Raw:
    raw = _decode(text)
    if raw is None or _UNIT_SIZES.get(raw[:2]) != len(raw):
        raise CodeError(faults.unit_fault(text))
    return raw


def parse_code(text: str) -> Raw:
    """A composite ISCC-CODE, or a lone unit."""
    raw = _decode(text)
    if raw is None or _CODE_SIZES.get(raw[:2]) != len(raw):
        raise CodeError(faults.code_fault(text))
    return raw


def parse_id(text: str, *, fold: bool = False) -> tuple[int, Key]:
    """Realm and key of an ISCC-ID. With `fold` the base32 part may be in lower case; the prefix never."""
    if len(text) == _ID_CHARS and text[:5] == "ISCC:":
        try:
            number = int(text[5:].encode().translate(_FOLDED_DIGITS if fold else _DIGITS), 32)
        except ValueError:
            number = 0
        realm = _REALMS.get(number >> 64)
        if realm is not None:
            return realm, Key((number & _KEY_MASK).to_bytes(8, "big"))
    raise CodeError(faults.id_fault(text, fold=fold))


def parse_simprint(text: str) -> Body:
    """Standard or url-safe alphabet, padded or not. Unused bits of the last character are ignored, as iscc-core ignores them."""
    padding = _PADDING.get(len(text))
    if padding is not None:
        try:
            body = binascii.a2b_base64(text.encode().translate(_STANDARD) + padding, strict_mode=True)
        except ValueError:
            body = b""
        if len(body) in _BODY_SIZES:
            return Body(body)
    raise CodeError(faults.simprint_fault(text))


def check_simprint_type(name: str) -> None:
    fault = faults.simprint_type_fault(name)
    if fault is not None:
        raise CodeError(fault)


def decompose(raw: Raw) -> list[Raw]:
    """The units of a code; a unit yields itself."""
    headers = _UNIT_HEADERS.get(raw[:2])
    if headers is None:
        return [raw]
    size = (len(raw) - 2) // len(headers)
    return [Raw(header + raw[2 + i * size : 2 + (i + 1) * size]) for i, header in enumerate(headers)]


def compose(units: Sequence[Raw]) -> Raw | None:
    """The code that stands for these units in any order; None when the format has no such combination."""
    ordered = sorted(units, key=_main_type)
    if len(ordered) == 2 and min(map(len, ordered)) >= 18 and [_main_type(unit) for unit in ordered] == [DATA, INSTANCE]:
        return Raw(_WIDE_HEADER + b"".join(unit[2:18] for unit in ordered))
    header = _CODE_HEADERS.get(tuple(_header(unit[0] >> 4, unit[0] & 15, 1) for unit in ordered))
    return None if header is None else Raw(header + b"".join(unit[2:10] for unit in ordered))


def encode(raw: bytes) -> str:
    bits = len(raw) * 8
    shifts = range(-(-bits // 10) * 10 - 10, -1, -10)
    number = int.from_bytes(raw, "big") << -bits % 10
    text = "".join([_PAIRS[number >> shift & 1023] for shift in shifts])
    return "ISCC:" + text[: -(-bits // 5)]


def format_id(realm: int, key: Key) -> str:
    number = int.from_bytes(key, "big")
    return (
        _ID_STARTS[realm << 4 | number >> 60]
        + _PAIRS[number >> 50 & 1023]
        + _PAIRS[number >> 40 & 1023]
        + _PAIRS[number >> 30 & 1023]
        + _PAIRS[number >> 20 & 1023]
        + _PAIRS[number >> 10 & 1023]
        + _PAIRS[number & 1023]
    )


def format_simprint(body: Body) -> str:
    return binascii.b2a_base64(body, newline=False).translate(_URL_SAFE, b"=").decode()


def unit_type(raw: Raw) -> str:
    """The type of an accepted unit, such as `CONTENT_TEXT_V0`."""
    return _UNIT_TYPES[raw[:2]]


def unit_body(raw: Raw) -> Body:
    return Body(raw[2:])


def _decode(text: str) -> Raw | None:
    """Canonical text of one of the lengths that units and codes have. `int` refuses the `!` that stands for every other character."""
    shape = _SHAPES.get(len(text))
    if shape is None or text[:5] != "ISCC:":
        return None
    size, unused = shape
    try:
        number = int(text[5:].encode().translate(_DIGITS), 32)
    except ValueError:
        return None
    raw = number >> unused
    return Raw(raw.to_bytes(size, "big")) if raw << unused == number else None


def _main_type(raw: Raw) -> int:
    return raw[0] >> 4


def _header(main_type: int, sub_type: int, length: int) -> bytes:
    return bytes([main_type << 4 | sub_type, length])


def _composites() -> dict[bytes, tuple[bytes, ...]]:
    """Header of every composite except WIDE → headers of its units. The length nibble says which optional units are in."""
    always = (_header(DATA, 0, 1), _header(INSTANCE, 0, 1))
    meta = (_header(META, 0, 1),)
    composites = {_header(ISCC, SUM, 0): always, _header(ISCC, NONE, 4): meta + always}
    for medium in range(len(faults.MEDIA)):
        content = (_header(CONTENT, medium, 1),)
        semantic = (_header(SEMANTIC, medium, 1),)
        for length, units in ((1, content), (2, semantic), (3, semantic + content)):
            composites[_header(ISCC, medium, length)] = units + always
            composites[_header(ISCC, medium, length + 4)] = meta + units + always
    return composites


_DIGITS = bytes(b"0123456789abcdefghijklmnopqrstuv"[_BASE32.index(c)] if c in _BASE32 else ord("!") for c in range(256))
_FOLDED_DIGITS = bytes(_DIGITS[ord(chr(c).upper())] if c < 128 else ord("!") for c in range(256))
_PAIRS = [chr(high) + chr(low) for high in _BASE32 for low in _BASE32]
_SHAPES = {5 + -(-size * 8 // 5): (size, -size * 8 % 5) for size in (10, 18, 26, 34, 42)}  # characters of a text → bytes, unused bits

_UNIT_TYPES = {
    _header(main_type, sub_type, length): f"{name}_{sub_name}_V0"
    for main_type, name in enumerate(faults.UNIT_NAMES)
    for sub_type, sub_name in enumerate(faults.sub_types(main_type))
    for length in (1, 3, 5, 7)
}
_UNIT_SIZES = {header: 2 + 4 * (header[1] + 1) for header in _UNIT_TYPES}
_COMPOSITES = _composites()
_CODE_HEADERS = {units: header for header, units in _COMPOSITES.items()}
_WIDE_HEADER = _header(ISCC, WIDE, 0)
_UNIT_HEADERS = _COMPOSITES | {_WIDE_HEADER: (_header(DATA, 0, 3), _header(INSTANCE, 0, 3))}
_CODE_SIZES = _UNIT_SIZES | {header: 2 + sum(_UNIT_SIZES[unit] - 2 for unit in units) for header, units in _UNIT_HEADERS.items()}

_ID_CHARS = 21
_KEY_MASK = (1 << 64) - 1
_REALMS = {0x6010: 0, 0x6110: 1}
_ID_STARTS = [encode(bytes([ID << 4 | realm, 0x10, top << 4]))[:9] for realm in (0, 1) for top in range(16)]

_BODY_SIZES = frozenset((8, 16, 24, 32))
_PADDING = {11: b"=", 12: b"", 22: b"==", 24: b"", 32: b"", 43: b"=", 44: b""}
_STANDARD = bytes.maketrans(b"-_", b"+/")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
