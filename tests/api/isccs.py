"""ISCC strings for the tests of the interface, made with the reference library."""

from __future__ import annotations

import base64
import random

import iscc_core  # type: ignore[import-untyped]  # it has no type hints

TEXT = 0
META, SEMANTIC, CONTENT, DATA, INSTANCE = range(5)


def iscc_id(number: int, realm: int = 0) -> str:
    made: str = iscc_core.gen_iscc_id_v1(1_700_000_000_000_000 + number, 1, realm)["iscc"]
    return made


def unit(main_type: int, seed: int, bits: int = 64) -> str:
    body = random.Random(f"{main_type} {seed}").randbytes(32)[: bits // 8]
    made: str = iscc_core.encode_component(main_type, TEXT, 0, bits, body)
    return "ISCC:" + made


def units(seed: int, bits: int = 64) -> list[str]:
    return [unit(kind, seed, bits) for kind in (META, CONTENT, DATA, INSTANCE)]


def code(seed: int) -> str:
    """The code of `units(seed)`."""
    made: str = iscc_core.gen_iscc_code_v0(units(seed))["iscc"]
    return made


def simprint(seed: int, size: int = 8) -> str:
    return base64.urlsafe_b64encode(random.Random(seed).randbytes(size)).decode().rstrip("=")
