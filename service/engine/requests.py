"""What goes into the engine and what comes out: plain values, complete and validated.

The four requests are also the formats of the operation log: one row holds one request as msgpack, tagged by its type.
"""

from __future__ import annotations

from typing import NewType

import msgspec

Body = NewType("Body", bytes)
"""Unit or simprint without header: 8, 16, 24 or 32 bytes."""
Raw = NewType("Raw", bytes)
"""An ISCC as bytes: two header bytes and the body."""
Key = NewType("Key", bytes)
"""Asset key: the eight bytes of the body of an ISCC-ID."""

SIMPRINT_PLACE_BYTES = 8
"""Offset and size, four bytes each."""


class Simprint(msgspec.Struct, frozen=True, array_like=True):
    """One chunk of an asset."""

    body: Body
    offset: int
    size: int


class Simprints(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The chunks of one type of an asset, packed as `store` has them: body, offset and size of each, one behind the other."""

    width: int
    packed: bytes

    def __len__(self) -> int:
        return len(self.packed) // (self.width + SIMPRINT_PLACE_BYTES)


class Asset(msgspec.Struct, frozen=True, array_like=True):
    """An asset to add. `simprints` None leaves stored ones as they are; an empty dict removes them."""

    realm: int
    key: Key
    code: Raw | None
    units: list[Raw] | None
    metadata: bytes | None  # a JSON object, as it was sent
    simprints: dict[str, Simprints] | None


class CreateIndex(msgspec.Struct, frozen=True, array_like=True, tag="create"):
    """Answer: None. Conflict when the name is taken."""

    name: str


class DeleteIndex(msgspec.Struct, frozen=True, array_like=True, tag="drop"):
    """Answer: None. NotFound when there is none."""

    name: str


class AddAssets(msgspec.Struct, frozen=True, array_like=True, tag="add"):
    """Answer: for each asset True when it was created, False when it was updated."""

    index: str
    assets: list[Asset]


class DeleteAsset(msgspec.Struct, frozen=True, array_like=True, tag="delete"):
    """Answer: None. NotFound when the index or the asset is not there."""

    index: str
    realm: int
    key: Key


Request = CreateIndex | DeleteIndex | AddAssets | DeleteAsset
Answer = list[bool] | None


class IndexInfo(msgspec.Struct, frozen=True):
    """Counters of one index. Sizes in bytes; `types` has one key for each unit type and `SIMPRINT_<type>`."""

    name: str
    assets: int
    record_bytes: int
    type_bytes: dict[str, int]


class StoredAsset(msgspec.Struct, frozen=True, array_like=True):
    """An asset as it is stored, without its simprints: the record, as msgpack."""

    code: Raw | None
    units: list[Raw] | None
    metadata: bytes | None


class Query(msgspec.Struct, frozen=True):
    """One search. Exactly one of `key` (with its realm) and the others says what is searched for."""

    units: list[Raw]
    simprints: dict[str, list[Body]]
    realm: int = 0
    key: Key | None = None
    exact: bool = False
    """Identical simprints only."""


class Match(msgspec.Struct, frozen=True):
    """One asset that matches."""

    realm: int
    key: Key
    score: float
    types: dict[str, float]
    metadata: bytes | None


class Chunk(msgspec.Struct, frozen=True):
    """One simprint of the query and the best simprint of an asset that it matched."""

    query: Body
    match: Body
    score: float
    freq: int
    offset: int
    size: int


class TypeMatch(msgspec.Struct, frozen=True):
    """What an asset matched in one simprint type."""

    score: float
    matches: int
    queried: int
    chunks: list[Chunk]


class ChunkMatch(msgspec.Struct, frozen=True):
    """One asset whose simprints match."""

    realm: int
    key: Key
    score: float
    types: dict[str, TypeMatch]
    metadata: bytes | None


class SearchAnswer(msgspec.Struct, frozen=True):
    """Matches in order. `asset` is the stored asset that a search by ISCC-ID started from."""

    matches: list[Match]
    chunk_matches: list[ChunkMatch]
    truncated: bool
    asset: StoredAsset | None
    simprints: dict[str, list[Body]]
