"""What a person reads when a string is refused."""

from __future__ import annotations

import pytest

from service.engine import codes
from service.engine.codes import CodeError
from tests.engine.isccs import text_of


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("MAIAAAAAAAAAAAAA", "Invalid ISCC-ID format: 'MAIAAAAAAAAAAAAA' (must start with 'ISCC:')"),
        ("ISCC:MAIAAAAAAAAAAAA1", "Invalid ISCC-ID base32 encoding: Non-base32 digit found (character '1' is not base32, use A-Z and 2-7)"),
        ("ISCC:MAIAAAAAAAAAAAAa", "Invalid ISCC-ID base32 encoding: Non-base32 digit found (use upper case)"),
        ("ISCC:MAI", "Invalid ISCC-ID base32 encoding: Incorrect padding (3 characters are no whole number of bytes)"),
        ("ISCC:MAIAAAAA", "Invalid ISCC-ID length: 5 bytes (expected 10 bytes = 2-byte header + 8-byte body)"),
        (text_of(b"\x00\x01" + bytes(8)), "Invalid ISCC-ID main type: 0 (expected 6)"),
        (text_of(b"\x60\x00" + bytes(8)), "Invalid ISCC-ID version: 0 (expected 1)"),
        (text_of(b"\x62\x10" + bytes(8)), "Invalid ISCC-ID realm: 2 (expected 0 or 1)"),
        (
            text_of(b"\x60\x13" + bytes(8)),
            "Invalid ISCC-ID length field: 3 (expected 0 for 64-bit ISCC-ID v1). ISCC-ID 'ISCC:MAJQAAAAAAAAAAAA' appears to be malformed.",
        ),
    ],
)
def test_id_reasons(text: str, reason: str) -> None:
    """A refused ISCC-ID gets the words that clients know."""
    with pytest.raises(CodeError) as refused:
        codes.parse_id(text)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x20\x01" + bytes(6), "unit body has 6 bytes, its header says 8"),
        (b"\x20\x01" + bytes(16), "unit body has 16 bytes, its header says 8: send one code or a list of units, not a sequence"),
        (b"\x60\x10" + bytes(8), "main type ID is no unit: expected META, SEMANTIC, CONTENT, DATA or INSTANCE"),
        (b"\x50\x01" + bytes(24), "main type ISCC is no unit: expected META, SEMANTIC, CONTENT, DATA or INSTANCE"),
        (b"\x90\x01" + bytes(8), "main type 9 is no unit: expected META, SEMANTIC, CONTENT, DATA or INSTANCE"),
        (b"\x31\x01" + bytes(8), "DATA unit has sub type 1: expected 0 (NONE)"),
        (b"\x25\x01" + bytes(8), "CONTENT unit has sub type 5: expected 0 (TEXT), 1 (IMAGE), 2 (AUDIO), 3 (VIDEO), 4 (MIXED)"),
        (b"\x20\x11" + bytes(8), "CONTENT unit has version 1: expected 0"),
        (b"\x20\x02" + bytes(12), "CONTENT unit has 96 bits: expected 64, 128, 192 or 256 bits"),
        (b"\x20\x0f" + bytes(12), "CONTENT unit has length field 15: expected 64, 128, 192 or 256 bits"),
        (b"\x20\x01", "too short: an ISCC has two header bytes and a body"),
    ],
)
def test_unit_reasons(raw: bytes, reason: str) -> None:
    """A refused unit says what is wrong and what is expected."""
    with pytest.raises(CodeError) as refused:
        codes.parse_unit(text_of(raw))
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\x60\x10" + bytes(8), "main type ID is no code: expected ISCC or a unit"),
        (b"\x70\x01" + bytes(8), "main type FLAKE is no code: expected ISCC or a unit"),
        (b"\x00\x01" + bytes(18), "unit body has 18 bytes, its header says 8: send one code or a list of units, not a sequence"),
        (b"\x50\x00" + bytes(16), "ISCC-CODE of sub type TEXT has length field 0: expected 1 or 2 or 3 or 5 or 6 or 7"),
        (b"\x55\x04" + bytes(24), "ISCC-CODE of sub type SUM has length field 4: expected 0"),
        (b"\x57\x01" + bytes(32), "ISCC-CODE of sub type WIDE has length field 1: expected 0"),
        (b"\x50\x11" + bytes(24), "ISCC-CODE has version 1: expected 0"),
        (b"\x50\x01" + bytes(16), "code body has 16 bytes, its header says 24"),
        (b"\x57\x00" + bytes(24), "code body has 24 bytes, its header says 32"),
    ],
)
def test_code_reasons(raw: bytes, reason: str) -> None:
    """A refused code says what is wrong and what is expected."""
    with pytest.raises(CodeError) as refused:
        codes.parse_code(text_of(raw))
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("EAAQAAAAAAAAAAAA", "no ISCC: must start with 'ISCC:' (upper case), got 'EAAQAAAAAAAAAAAA'"),
        ("\ud800" + "x" * 100, f"no ISCC: must start with 'ISCC:' (upper case), got '?{'x' * 79}…'"),
        ("ISCC:eaaqaaaaaaaaaaaa", "not canonical: use upper case"),
        ("ISCC:EAAQAAAAAAAAAAAA====", "not canonical: leave out the padding '='"),
        ("ISCC:EAAQ-AAAA-AAAA-AAAA", "not canonical: leave out blanks and dashes"),
        ("ISCC:EAAQAAAAAAAAAAA1", "not canonical: character '1' is not base32, use A-Z and 2-7"),
        ("ISCC:EAAQAAAAAAAAAAA", "unit body has 7 bytes, its header says 8"),
        ("ISCC:EAAQAAAAAAAAAAAAA", "17 base32 characters are no whole number of bytes: the text is cut off or too long"),
        (text_of(b"\x20\x03" + bytes(16))[:-1] + "B", "not canonical: the unused bits of the last character must be zero"),
        ("ISCC:", "too short: an ISCC has two header bytes and a body"),
    ],
)
def test_text_reasons(text: str, reason: str) -> None:
    """A string that is not canonical says how to write it."""
    with pytest.raises(CodeError) as refused:
        codes.parse_unit(text)
    assert str(refused.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("AAECAwQFB", "9 characters are no whole number of bytes: the base64 is cut off or too long"),
        ("AAECAwQFBg", "simprint has 7 bytes: expected 8, 16, 24 or 32"),
        ("", "simprint has 0 bytes: expected 8, 16, 24 or 32"),
        ("AAECAwQF Bg", "character ' ' is not base64: use A-Z, a-z, 0-9, '-' and '_'"),
        ("AAEC=AwQFBgc", "character '=' is not base64: use A-Z, a-z, 0-9, '-' and '_'"),
        ("AAECAwQFBgc==", "wrong base64 padding: leave out all '='"),
    ],
)
def test_simprint_reasons(text: str, reason: str) -> None:
    """A refused simprint names the length, the character, the width or the padding."""
    with pytest.raises(CodeError) as refused:
        codes.parse_simprint(text)
    assert str(refused.value) == reason
