"""Why a string was refused, in words for the person who sent it.

Called only after `codes` has said no, so every function finds a reason.
"""

from __future__ import annotations

import base64
import re

UNIT_NAMES = ("META", "SEMANTIC", "CONTENT", "DATA", "INSTANCE")
MEDIA = ("TEXT", "IMAGE", "AUDIO", "VIDEO", "MIXED")
CODE_SUB_TYPES = (*MEDIA, "SUM", "NONE", "WIDE")
_MAIN_TYPES = (*UNIT_NAMES, "ISCC", "ID", "FLAKE")
_SIMPRINT_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]*")
_SHOWN_CHARS = 80


def sub_types(main_type: int) -> tuple[str, ...]:
    """Names of the sub types of a unit; the number of a sub type is its place."""
    return MEDIA if UNIT_NAMES[main_type] in ("SEMANTIC", "CONTENT") else ("NONE",)


def unit_fault(text: str) -> str:
    return _text_fault(text) or _unit_fault(_decode(text))


def code_fault(text: str) -> str:
    fault = _text_fault(text)
    if fault is not None:
        return fault
    raw = _decode(text)
    if raw[0] >> 4 < len(UNIT_NAMES):
        return _unit_fault(raw)
    if _main_type(raw) != "ISCC":
        return f"main type {_main_type(raw)} is no code: expected ISCC or a unit"
    return _composite_fault(raw)


def id_fault(text: str, *, fold: bool) -> str:
    if not text.startswith("ISCC:"):
        return f"Invalid ISCC-ID format: '{_shown(text)}' (must start with 'ISCC:')"
    digits = _upper(text[5:]) if fold else text[5:]
    if re.fullmatch("[A-Z2-7]*", digits) is None:
        return f"Invalid ISCC-ID base32 encoding: Non-base32 digit found ({_character_fault(digits)})"
    if len(digits) % 8 in (1, 3, 6):
        return f"Invalid ISCC-ID base32 encoding: Incorrect padding ({len(digits)} characters are no whole number of bytes)"
    raw = base64.b32decode(digits + "=" * (-len(digits) % 8))
    if len(raw) != 10:
        return f"Invalid ISCC-ID length: {len(raw)} bytes (expected 10 bytes = 2-byte header + 8-byte body)"
    main_type, realm, version, length = _nibbles(raw)
    if main_type != _MAIN_TYPES.index("ID"):
        return f"Invalid ISCC-ID main type: {main_type} (expected 6)"
    if version != 1:
        return f"Invalid ISCC-ID version: {version} (expected 1)"
    if length != 0:
        return f"Invalid ISCC-ID length field: {length} (expected 0 for 64-bit ISCC-ID v1). ISCC-ID '{text}' appears to be malformed."
    return f"Invalid ISCC-ID realm: {realm} (expected 0 or 1)"


def simprint_fault(text: str) -> str:
    digits = text.rstrip("=")
    if _BASE64.fullmatch(digits) is None:
        bad = next(c for c in digits if _BASE64.fullmatch(c) is None)
        return f"character {bad!a} is not base64: use A-Z, a-z, 0-9, '-' and '_'"
    if len(digits) % 4 == 1:
        return f"{len(digits)} characters are no whole number of bytes: the base64 is cut off or too long"
    size = len(digits) * 3 // 4
    if size not in (8, 16, 24, 32):
        return f"simprint has {size} bytes: expected 8, 16, 24 or 32"
    return "wrong base64 padding: leave out all '='"


def simprint_type_fault(name: str) -> str | None:
    if _SIMPRINT_TYPE.fullmatch(name) is not None:
        return None
    return "simprint type must be 1 to 64 characters: first a letter, then letters, digits, '_', '.' and '-'"


def _text_fault(text: str) -> str | None:
    """What is wrong before the bytes are looked at."""
    if not text.startswith("ISCC:"):
        return f"no ISCC: must start with 'ISCC:' (upper case), got '{_shown(text)}'"
    digits = text[5:]
    if re.fullmatch("[A-Z2-7]*", digits) is None:
        return f"not canonical: {_character_fault(digits)}"
    if len(digits) % 8 in (1, 3, 6):
        return f"{len(digits)} base32 characters are no whole number of bytes: the text is cut off or too long"
    raw = _decode(text)
    if base64.b32encode(raw).decode().rstrip("=") != digits:
        return "not canonical: the unused bits of the last character must be zero"
    return "too short: an ISCC has two header bytes and a body" if len(raw) < 3 else None


def _unit_fault(raw: bytes) -> str:
    main_type, sub_type, version, length = _nibbles(raw)
    if main_type >= len(UNIT_NAMES):
        return f"main type {_main_type(raw)} is no unit: expected META, SEMANTIC, CONTENT, DATA or INSTANCE"
    name = UNIT_NAMES[main_type]
    if sub_type >= len(sub_types(main_type)):
        return f"{name} unit has sub type {sub_type}: expected {_numbered(sub_types(main_type))}"
    if version != 0:
        return f"{name} unit has version {version}: expected 0"
    if length not in (1, 3, 5, 7):
        bits = f"{(length + 1) * 32} bits" if length < 8 else f"length field {length}"
        return f"{name} unit has {bits}: expected 64, 128, 192 or 256 bits"
    return f"unit body has {len(raw) - 2} bytes, its header says {(length + 1) * 4}" + _longer(len(raw) - 2 - (length + 1) * 4)


def _composite_fault(raw: bytes) -> str:
    _, sub_type, version, length = _nibbles(raw)
    if sub_type >= len(CODE_SUB_TYPES):
        return f"ISCC-CODE has sub type {sub_type}: expected {_numbered(CODE_SUB_TYPES)}"
    if version != 0:
        return f"ISCC-CODE has version {version}: expected 0"
    name = CODE_SUB_TYPES[sub_type]
    allowed = {"SUM": {0}, "NONE": {4}, "WIDE": {0}}.get(name, {1, 2, 3, 5, 6, 7})
    if length not in allowed:
        return f"ISCC-CODE of sub type {name} has length field {length}: expected {' or '.join(map(str, sorted(allowed)))}"
    size = 32 if name == "WIDE" else 16 + 8 * length.bit_count()
    return f"code body has {len(raw) - 2} bytes, its header says {size}" + _longer(len(raw) - 2 - size)


def _longer(excess: int) -> str:
    return ": send one code or a list of units, not a sequence" if excess > 0 else ""


def _character_fault(digits: str) -> str:
    bad = next(c for c in digits if not ("A" <= c <= "Z" or "2" <= c <= "7"))
    if bad.isascii() and bad.islower():
        return "use upper case"
    if bad == "=":
        return "leave out the padding '='"
    if bad.isspace() or bad == "-":
        return "leave out blanks and dashes"
    return f"character {bad!a} is not base32, use A-Z and 2-7"


def _main_type(raw: bytes) -> str:
    main_type = raw[0] >> 4
    return _MAIN_TYPES[main_type] if main_type < len(_MAIN_TYPES) else str(main_type)


def _nibbles(raw: bytes) -> tuple[int, int, int, int]:
    """Nibbles of 8 and more begin a longer number in iscc-core. No place admits one, so the nibble itself is named."""
    return raw[0] >> 4, raw[0] & 15, raw[1] >> 4, raw[1] & 15


def _decode(text: str) -> bytes:
    digits = text[5:]
    return base64.b32decode(digits + "=" * (-len(digits) % 8))


def _upper(digits: str) -> str:
    """ASCII only: `str.upper` would turn other letters into ones that look accepted."""
    return digits.upper() if digits.isascii() else digits


def _numbered(names: tuple[str, ...]) -> str:
    return ", ".join(f"{number} ({name})" for number, name in enumerate(names))


def _shown(text: str) -> str:
    """A path can carry halves of surrogate pairs, which no answer can."""
    shown = text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
    return shown.encode("utf-8", "replace").decode()
