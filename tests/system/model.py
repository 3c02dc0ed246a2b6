"""The wire contract as a plain Python model: what the service has to answer, found by brute force.

It shares no code with the service. Scores are the formula of the contract over similarities counted bit by bit; the order is score
descending, then the bytes of the ISCC-ID ascending.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from math import fsum, log
from typing import Any, NamedTuple

THRESHOLD = 0.75
EXPONENT = 4
MAIN_TYPES = ("META", "SEMANTIC", "CONTENT", "DATA", "INSTANCE")
MEDIA = ("TEXT", "IMAGE", "AUDIO", "VIDEO", "MIXED")
META, SEMANTIC, CONTENT, DATA, INSTANCE, ISCC = range(6)
WIDE = 7
LENGTH_64, LENGTH_128 = 1, 3

Entry = dict[str, Any]
Simprints = dict[str, list[dict[str, Any]]]


class Match(NamedTuple):
    """One expected match."""

    iscc_id: str
    score: float
    types: dict[str, float]
    metadata: dict[str, Any] | None


class Chunk(NamedTuple):
    """One query simprint and what it matched."""

    query: str
    match: str
    score: float
    freq: int
    offset: int
    size: int


class ChunkMatch(NamedTuple):
    """One expected match by simprints: score, and for each type its score, how many were asked for, and the chunks."""

    iscc_id: str
    score: float
    types: dict[str, tuple[float, int, list[Chunk]]]


class IndexModel:
    """One index: the assets as they were sent, less their simprints, which stand apart; and the realm that the first one decided."""

    def __init__(self) -> None:
        self.assets: dict[str, Entry] = {}
        self.simprints: dict[str, Simprints] = {}
        self.realm: int | None = None

    def add(self, entries: list[Entry]) -> tuple[int, list[str]]:
        """The status of the answer and, when it is 201, the status of each entry."""
        realms = {raw(entry["iscc_id"])[0] & 1 for entry in entries}
        if self.realm is not None:
            realms.add(self.realm)
        if len(realms) > 1:
            return 400, []
        statuses = []
        for entry in entries:
            statuses.append("updated" if entry["iscc_id"] in self.assets else "created")
            self.assets[entry["iscc_id"]] = without_simprints(entry)
        for iscc_id, entry in {entry["iscc_id"]: entry for entry in entries}.items():  # of equal ids the last is stored, and nothing else
            if "simprints" in entry:
                self.simprints[iscc_id] = entry["simprints"]
        self.realm = min(realms, default=None)
        return 201, statuses

    def delete(self, iscc_id: str) -> int:
        if self.is_foreign(iscc_id):
            return 400
        self.simprints.pop(iscc_id, None)
        return 404 if self.assets.pop(iscc_id, None) is None else 204

    def search_chunks(self, wanted: dict[str, list[str]], limit: int, leave_out: str | None = None) -> list[ChunkMatch]:
        owners: dict[tuple[str, str], int] = {}
        for stored in self.simprints.values():
            for name, simprints in stored.items():
                for one in {simprint["simprint"] for simprint in simprints}:
                    owners[name, one] = owners.get((name, one), 0) + 1
        found = []
        for iscc_id, stored in self.simprints.items():
            types = {name: self._chunks(name, asked, stored.get(name, []), owners) for name, asked in wanted.items()}
            types = {name: match for name, match in types.items() if match[2]}
            if types and iscc_id != leave_out:
                found.append(ChunkMatch(iscc_id, sum(match[0] for match in types.values()) / len(types), types))
        return sorted(found, key=lambda match: (-round(match.score, 12), raw(match.iscc_id)))[:limit]

    def _chunks(
        self, name: str, asked: list[str], stored: list[dict[str, Any]], owners: dict[tuple[str, str], int]
    ) -> tuple[float, int, list[Chunk]]:
        """The best stored simprint for each that is asked for: the most similar, of equals the first in byte order, at its first place."""

        def idf(simprint: str) -> float:
            return log(1 + len(self.assets) / (1 + owners.get((name, simprint), 0)))

        chunks = []
        numerator = denominator = 0.0
        for query in asked:
            ranked = [
                (-similarity(simprint(query), simprint(one["simprint"])), simprint(one["simprint"]), at) for at, one in enumerate(stored)
            ]
            if not ranked or -min(ranked)[0] < THRESHOLD:
                denominator += idf(query)
                continue
            score, _, at = min(ranked)
            best = stored[at]
            chunks.append(Chunk(query, best["simprint"], -score, owners[name, best["simprint"]], best["offset"], best["size"]))
            numerator += idf(best["simprint"]) * -score
            denominator += idf(best["simprint"])
        return (numerator / denominator if denominator else 0.0), len(asked), chunks

    def is_foreign(self, iscc_id: str) -> bool:
        """True when the ISCC-ID belongs to another realm than the index."""
        return self.realm is not None and raw(iscc_id)[0] & 1 != self.realm

    def search(self, units: list[bytes], limit: int, leave_out: str | None = None) -> list[Match]:
        found = (self._match(units, iscc_id, entry) for iscc_id, entry in self.assets.items() if iscc_id != leave_out)
        return sorted((match for match in found if match is not None), key=lambda match: (-match.score, raw(match.iscc_id)))[:limit]

    def _match(self, units: list[bytes], iscc_id: str, entry: Entry) -> Match | None:
        types = similarities(units, units_of(entry))
        reached = [similarity for similarity in types.values() if similarity >= THRESHOLD]
        if not reached:
            return None
        score = fsum(similarity**EXPONENT for similarity in reached) / fsum(reached)
        return Match(iscc_id, score, types, entry.get("metadata") or None)


class Model:
    """All indexes of one service."""

    def __init__(self) -> None:
        self.indexes: dict[str, IndexModel] = {}

    def create_index(self, name: str) -> int:
        if name in self.indexes:
            return 409
        self.indexes[name] = IndexModel()
        return 201

    def delete_index(self, name: str) -> int:
        return 404 if self.indexes.pop(name, None) is None else 204

    def add(self, name: str, entries: list[Entry]) -> tuple[int, list[str]]:
        return self.indexes[name].add(entries) if name in self.indexes else (404, [])

    def delete(self, name: str, iscc_id: str) -> int:
        return self.indexes[name].delete(iscc_id) if name in self.indexes else 404

    def get(self, name: str, iscc_id: str) -> tuple[int, Entry | None]:
        index = self.indexes.get(name)
        if index is None:
            return 404, None
        if index.is_foreign(iscc_id):
            return 400, None
        entry = index.assets.get(iscc_id)
        return (404, None) if entry is None else (200, entry)

    def search(self, name: str, query: Entry, limit: int) -> tuple[int, list[Match]]:
        """A query by `iscc_id`, by `units` or by `iscc_code`, in this order."""
        if "iscc_id" not in query:
            return (200, self.indexes[name].search(units_of(query), limit)) if name in self.indexes else (404, [])
        status, entry = self.get(name, query["iscc_id"])
        if entry is None:
            return status, []
        return status, self.indexes[name].search(units_of(entry), limit, leave_out=query["iscc_id"])

    def search_chunks(self, name: str, query: Entry, limit: int) -> list[ChunkMatch]:
        """What the same query finds by its simprints, or by those of the asset that it names. For queries that are answered with 200."""
        index = self.indexes[name]
        if "iscc_id" not in query:
            return index.search_chunks(query.get("simprints", {}), limit)
        own = index.simprints.get(query["iscc_id"], {})
        wanted = {kind: list(dict.fromkeys(one["simprint"] for one in simprints)) for kind, simprints in own.items()}
        return index.search_chunks(wanted, limit, leave_out=query["iscc_id"])


def raw(text: str) -> bytes:
    """An ISCC as bytes: two header bytes and the body."""
    digits = text.removeprefix("ISCC:")
    return base64.b32decode(digits + "=" * (-len(digits) % 8))


def text(code: bytes) -> str:
    """The reverse of `raw`."""
    return "ISCC:" + base64.b32encode(code).decode().rstrip("=")


def simprint(text: str) -> bytes:
    """A simprint as bytes."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def simprint_text(body: bytes) -> str:
    """The reverse of `simprint`."""
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def without_simprints(entry: Entry) -> Entry:
    """An entry as it is read back."""
    return {name: value for name, value in entry.items() if name != "simprints"}


def make_unit(main_type: int, sub_type: int, body: bytes) -> bytes:
    return bytes([main_type << 4 | sub_type, len(body) // 4 - 1]) + body


def unit_type(unit: bytes) -> str:
    main_type, sub_type = divmod(unit[0], 16)
    sub_name = MEDIA[sub_type] if main_type in (SEMANTIC, CONTENT) else "NONE"
    return f"{MAIN_TYPES[main_type]}_{sub_name}_V{unit[1] >> 4}"


def units_of(entry: Entry) -> list[bytes]:
    """The units that an entry or a query stands for: its own, else those of its code, else none."""
    if "units" in entry:
        return [raw(unit) for unit in entry["units"]]
    return decompose(raw(entry["iscc_code"])) if "iscc_code" in entry else []


def decompose(code: bytes) -> list[bytes]:
    main_type, sub_type = divmod(code[0], 16)
    body = code[2:]
    if main_type != ISCC:
        return [code]
    if sub_type == WIDE:
        return [make_unit(DATA, 0, body[:16]), make_unit(INSTANCE, 0, body[16:])]
    optional = [(main, sub) for bit, main, sub in ((4, META, 0), (2, SEMANTIC, sub_type), (1, CONTENT, sub_type)) if code[1] & bit]
    kinds = [*optional, (DATA, 0), (INSTANCE, 0)]
    return [make_unit(main, sub, body[8 * at : 8 * at + 8]) for at, (main, sub) in enumerate(kinds)]


def similarity(query: bytes, stored: bytes) -> float:
    """Of two bodies: equal bits over those that both have, counted from the front."""
    size = min(len(query), len(stored))
    different = sum((a ^ b).bit_count() for a, b in zip(query[:size], stored[:size], strict=True))
    return 1 - different / (8 * size)


def similarities(query: Iterable[bytes], stored: list[bytes]) -> dict[str, float]:
    """For each type that both have the best pair. INSTANCE is there only when one body begins with the other, and is 1 then."""
    best: dict[str, float] = {}
    for asked in query:
        name = unit_type(asked)
        for unit in stored:
            if unit_type(unit) != name:
                continue
            found = similarity(asked[2:], unit[2:])
            if name.startswith("INSTANCE") and found < 1:
                continue
            best[name] = max(best.get(name, 0.0), found)
    return best
