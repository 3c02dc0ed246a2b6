"""Mutated strings against iscc-core: accepted is exactly what iscc-core reads and writes back unchanged, with the same bytes."""

from __future__ import annotations

import base64
import random
import re
import string
import warnings
from collections.abc import Callable

import iscc_core as ic  # type: ignore[import-untyped]  # it has no type hints
import pytest

from service.engine import codes
from service.engine.codes import CodeError
from service.engine.requests import Body, Raw
from tests.engine.isccs import random_code, random_id, random_unit, text_of

CANONICAL = re.compile("ISCC:[A-Z2-7]+")
MUTATIONS = 40_000  # of each of the three


def test_mutated_units() -> None:
    """A unit is accepted exactly when iscc-core reads the string and writes it back unchanged, to the same bytes."""
    check_mutations(1, codes.parse_unit, judge_unit, [random_unit, random_unit, random_code])


def test_mutated_codes() -> None:
    """So is a code."""
    check_mutations(2, codes.parse_code, judge_code, [random_code, random_code, random_unit])


def test_mutated_ids() -> None:
    """So is an ISCC-ID of version 1 and realm 0 or 1, without counter."""
    check_mutations(3, id_bytes, judge_id, [random_id, random_id, random_unit])


def check_mutations(
    seed: int, parse: Callable[[str], bytes], judge: Callable[[str], bytes | None], sources: list[Callable[[random.Random], bytes]]
) -> None:
    rng = random.Random(seed)
    kept = 0
    for _ in range(MUTATIONS):
        text = mutate(rng, rng.choice(sources)(rng))
        expected = judge(text)
        assert accepted(parse, text) == expected, text
        kept += expected is not None
    assert MUTATIONS // 20 < kept < MUTATIONS // 2


@pytest.mark.parametrize("size", [8, 16, 24, 32, 40])
def test_every_header(size: int) -> None:
    """Of all headers (beside 8 bytes: all of the first two versions), exactly those that iscc-core knows are accepted."""
    for number in range(65536):
        if size != 8 and number & 0xE0:
            continue
        text = text_of(number.to_bytes(2, "big") + bytes(range(1, size + 1)))
        expected = judge_code(text)
        assert accepted(codes.parse_code, text) == expected, text
        assert accepted(codes.parse_unit, text) == (expected if number >> 12 != 5 else None), text


def test_mutated_simprints() -> None:
    """What is accepted decodes as iscc-core decodes it and has no dropped character; what is refused is refused with a reason."""
    rng = random.Random(9)
    alphabet = string.ascii_letters + string.digits + "+/-_" + "== \n!.é\ud800"
    for _ in range(20_000):
        text = list(codes.format_simprint(Body(rng.randbytes(rng.choice((8, 16, 24, 32))))) + "=" * rng.choice((0, 0, 1, 2)))
        for _ in range(rng.randint(0, 2)):
            place = rng.randrange(len(text))
            text[place : place + rng.randint(0, 2)] = rng.choices(alphabet, k=rng.randint(0, 2))
        check_simprint("".join(text))


def check_simprint(text: str) -> None:
    digits = text.rstrip("=")
    well_formed = re.fullmatch("[A-Za-z0-9+/_-]+", digits) is not None and (digits == text or len(text) % 4 == 0)
    expected = None
    if well_formed and len(digits) in (11, 22, 32, 43) and len(text) - len(digits) < 3:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            expected = ic.decode_base64(text)
    assert accepted(codes.parse_simprint, text) == expected, text


def accepted(parse: Callable[[str], bytes], text: str) -> bytes | None:
    try:
        return parse(text)
    except CodeError as refused:
        reason = str(refused)
    assert reason.encode()
    return None


def id_bytes(text: str) -> Raw:
    realm, key = codes.parse_id(text)
    return Raw(bytes([0x60 | realm, 0x10]) + key)


def canonical_bytes(text: str) -> bytes | None:
    """The bytes, if the standard library writes them as the same text."""
    if CANONICAL.fullmatch(text) is None or len(text[5:]) % 8 in (1, 3, 6):
        return None
    raw = ic.decode_base32(text[5:])
    return raw if len(raw) > 2 and text_of(raw) == text else None


def core_keeps(text: str) -> bool:
    """iscc-core decodes the text, knows every name in it, finds the body complete, and encodes it back to the same string."""
    try:
        names = [ic.iscc_type_id(unit) for unit in ic.iscc_decompose(text)]
        return bool(names) and ic.iscc_validate(text) and ic.iscc_normalize(text) == text
    except (ValueError, IndexError, KeyError):
        return False


def judge_unit(text: str) -> bytes | None:
    raw = canonical_bytes(text)
    if raw is None or raw[0] >> 4 > 4 or raw[1] not in (1, 3, 5, 7):
        return None
    return raw if core_keeps(text) else None


def judge_code(text: str) -> bytes | None:
    raw = canonical_bytes(text)
    if raw is None or raw[0] >> 4 != 5:
        return judge_unit(text)
    return raw if core_keeps(text) else None


def judge_id(text: str) -> bytes | None:
    raw = canonical_bytes(text)
    if raw is None or len(raw) != 10 or raw[0] >> 4 != 6 or raw[1] != 0x10:
        return None
    return raw if core_keeps(text) else None


def mutate(rng: random.Random, raw: bytes) -> str:
    return rng.choice(MUTATORS)(rng, raw)


def flip_bits(rng: random.Random, raw: bytes) -> str:
    flips = sum(1 << rng.randrange(len(raw) * 8) for _ in range(rng.randint(1, 3)))
    return text_of((int.from_bytes(raw, "big") ^ flips & (1 << len(raw) * 8) - 1).to_bytes(len(raw), "big"))


def change_header(rng: random.Random, raw: bytes) -> str:
    return text_of(bytes([raw[0] ^ rng.getrandbits(8) & rng.getrandbits(8), raw[1] ^ rng.getrandbits(8) & rng.getrandbits(8)]) + raw[2:])


def swap_nibbles(rng: random.Random, raw: bytes) -> str:
    nibbles = list(raw[:2].hex())
    rng.shuffle(nibbles)
    return text_of(bytes.fromhex("".join(nibbles)) + raw[2:])


def change_size(rng: random.Random, raw: bytes) -> str:
    size = rng.randint(0, 46)
    return text_of((raw + rng.randbytes(46))[:size])


def truncate_text(rng: random.Random, raw: bytes) -> str:
    text = text_of(raw)
    return text[: rng.randint(0, len(text))]


def extend_text(rng: random.Random, raw: bytes) -> str:
    return text_of(raw) + "".join(rng.choices(string.ascii_uppercase + "234567", k=rng.randint(1, 9)))


def change_last(rng: random.Random, raw: bytes) -> str:
    return text_of(raw)[:-1] + rng.choice(string.ascii_uppercase + "234567")


def change_case(rng: random.Random, raw: bytes) -> str:
    text = text_of(raw)
    return rng.choice([text.lower(), text[:5].lower() + text[5:], text[:5] + text[5:].lower(), text.swapcase(), text.title()])


def pad(rng: random.Random, raw: bytes) -> str:
    return text_of(raw) + "=" * rng.randint(1, 7)


def insert(rng: random.Random, raw: bytes) -> str:
    text, place = text_of(raw), rng.randint(0, 20)
    return text[:place] + rng.choice(" -\n\t_=:+.0189\x00\u00a0é\u0130\uff21\u0663😀") + text[place:]


def replace(rng: random.Random, raw: bytes) -> str:
    text, place = text_of(raw), rng.randrange(0, 21)
    return text[:place] + rng.choice("0189abz!/-_ \u0410\u017f\uff21\ud800\u0663") + text[place + 1 :]


def change_prefix(rng: random.Random, raw: bytes) -> str:
    return rng.choice(["", "iscc:", "Iscc:", "ISCC", "ISCC::", " ISCC:", "ISCC: ", "ISCC:ISCC:", "ISCD:", "urn:ISCC:"]) + text_of(raw)[5:]


def other_alphabet(rng: random.Random, raw: bytes) -> str:
    encodings: list[Callable[[bytes], bytes]] = [base64.b32hexencode, base64.b16encode, base64.b64encode, base64.urlsafe_b64encode]
    return "ISCC:" + rng.choice(encodings)(raw).decode().rstrip("=")


def join_units(rng: random.Random, raw: bytes) -> str:
    return text_of(raw + random_unit(rng))


def keep(rng: random.Random, raw: bytes) -> str:
    return text_of(raw)


MUTATORS = [
    flip_bits, change_header, change_header, swap_nibbles, change_size, truncate_text, extend_text, change_last, change_case, pad,
    insert, replace, change_prefix, other_alphabet, join_units, keep,
]  # fmt: skip
