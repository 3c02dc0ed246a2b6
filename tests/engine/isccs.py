"""Random valid ISCCs as bytes, and their text as the standard library writes it."""

from __future__ import annotations

import base64
import random

from service.engine.requests import Raw

UNITS = [(0, 0), *((main, sub) for main in (1, 2) for sub in range(5)), (3, 0), (4, 0)]
CODES = [(5, 0), (6, 4), (7, 0), *((sub, length) for sub in range(5) for length in (1, 2, 3, 5, 6, 7))]


def text_of(raw: bytes) -> str:
    return "ISCC:" + base64.b32encode(raw).decode().rstrip("=")


def random_unit(rng: random.Random, bits: tuple[int, ...] = (64, 128, 192, 256)) -> Raw:
    main, sub = rng.choice(UNITS)
    size = rng.choice(bits) // 8
    return Raw(bytes([main << 4 | sub, size // 4 - 1]) + rng.randbytes(size))


def random_code(rng: random.Random) -> Raw:
    sub, length = rng.choice(CODES)
    return Raw(bytes([5 << 4 | sub, length]) + rng.randbytes(32 if sub == 7 else 16 + 8 * length.bit_count()))


def random_id(rng: random.Random) -> bytes:
    return bytes([0x60 | rng.getrandbits(1), 0x10]) + rng.randbytes(8)
