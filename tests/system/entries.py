"""Seeded entries and queries in which near-duplicates, shared bodies, mixed lengths and several units of a type are common."""

from __future__ import annotations

import random

from tests.system.model import CONTENT, DATA, INSTANCE, ISCC, META, SEMANTIC, WIDE, Entry, make_unit, simprint_text, text

LENGTHS = (8, 16, 24, 32)
KINDS = ((META, 0), (SEMANTIC, 0), (CONTENT, 0), (CONTENT, 1), (DATA, 0), (INSTANCE, 0))
COMPOSITE_LENGTHS = (1, 2, 3, 5, 6, 7)
FIRST_TIME_US = 1_700_000_000_000_000
FAMILIES = 6
FLIPS = (0, 0, 1, 2, 5, 13, 40)  # of 256 bits
SIMPRINT_LENGTHS = {"CONTENT_TEXT_V0": 16, "custom.type-1": 8}
SIMPRINT_FLIPS = (0, 0, 0, 1, 3, 9, 30)


class Entries:
    """A source of entries. The bodies of each kind are variations of a few, so that much matches much."""

    def __init__(self, seed: int, lengths: tuple[int, ...] = LENGTHS) -> None:
        self.rng = random.Random(seed)
        self._lengths = lengths
        self._families = {kind: [self.rng.randbytes(32) for _ in range(FAMILIES)] for kind in KINDS}

    def entry(self, iscc_id: str) -> Entry:
        entry: Entry = {"iscc_id": iscc_id, **self.query()}
        if self.rng.random() < 0.5:
            entry["metadata"] = {"name": f"name {self.rng.randrange(1000)}", "n": self.rng.randrange(1 << 40)}
        if self.rng.random() < 0.5:
            entry["simprints"] = {name: [self._chunk(name) for _ in range(self.rng.randint(1, 4))] for name in self._simprint_types()}
        return entry

    def chunk_query(self) -> Entry:
        """By simprints, now and then with units beside them."""
        names = self._simprint_types() or ["CONTENT_TEXT_V0"]
        simprints = {name: [self._simprint(name) for _ in range(self.rng.randint(1, 5))] for name in names}
        return {"simprints": simprints} if self.rng.random() < 0.7 else {**self.query(), "simprints": simprints}

    def _simprint_types(self) -> list[str]:
        return [name for name in SIMPRINT_LENGTHS if self.rng.random() < 0.6]

    def _chunk(self, name: str) -> Entry:
        return {"simprint": self._simprint(name), "offset": self.rng.randrange(1 << 32), "size": self.rng.randrange(1 << 32)}

    def _simprint(self, name: str) -> str:
        size = SIMPRINT_LENGTHS[name]
        body = int.from_bytes(self.rng.choice(self._families[META, 0])[:size], "big")
        for bit in self.rng.sample(range(8 * size), self.rng.choice(SIMPRINT_FLIPS)):
            body ^= 1 << bit
        return simprint_text(body.to_bytes(size, "big"))

    def query(self) -> Entry:
        """By units mostly, else by code."""
        if self.rng.random() < 0.3:
            return {"iscc_code": text(self._code())}
        kinds = self.rng.choices(KINDS, k=self.rng.randint(2, 6))
        return {"units": [text(make_unit(*kind, self._body(kind))) for kind in kinds]}

    def _code(self) -> bytes:
        if self.rng.random() < 0.2:
            return (
                bytes([ISCC << 4 | WIDE, 0]) + self._body((DATA, 0))[:16].ljust(16, b"\1") + self._body((INSTANCE, 0))[:16].ljust(16, b"\2")
            )
        length = self.rng.choice(COMPOSITE_LENGTHS)
        optional = [kind for bit, kind in ((4, (META, 0)), (2, (SEMANTIC, 0)), (1, (CONTENT, 0))) if length & bit]
        bodies = [self._body(kind)[:8] for kind in (*optional, (DATA, 0), (INSTANCE, 0))]
        return bytes([ISCC << 4, length]) + b"".join(bodies)

    def _body(self, kind: tuple[int, int]) -> bytes:
        body = int.from_bytes(self.rng.choice(self._families[kind]), "big")
        for bit in self.rng.sample(range(256), self.rng.choice(FLIPS)):
            body ^= 1 << bit
        return body.to_bytes(32, "big")[: self.rng.choice(self._lengths)]


def iscc_id(number: int, realm: int = 0) -> str:
    """ISCC-IDs that ascend with the number."""
    return text(bytes([0x60 | realm, 0x10]) + ((FIRST_TIME_US + number) << 12).to_bytes(8, "big"))


def unique_entry(rng: random.Random, number: str) -> Entry:
    """An entry of four units and two simprints that nothing else resembles."""
    kinds = ((META, 0), (CONTENT, 0), (DATA, 0), (INSTANCE, 0))
    return {
        "iscc_id": number,
        "units": [text(make_unit(*kind, rng.randbytes(rng.choice((24, 32))))) for kind in kinds],
        "simprints": {"CONTENT_TEXT_V0": [{"simprint": simprint_text(rng.randbytes(32)), "offset": at, "size": 1} for at in range(2)]},
    }
