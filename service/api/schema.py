"""The bodies of the interface as types. Requests are decoded into them, answers are encoded from them, the OpenAPI document is made
of them.

Members of requests that may be absent or null are `… | None`; a query keeps the difference, as its echo shows it. ISCC strings are checked
by the codec after decoding: the patterns here are the outer form.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from service.api.schema_snapshots import SnapshotStatus

_ID = "^ISCC:[A-Z2-7]{16}$"
_CODE = "^ISCC:[A-Z2-7]{16,}$"
_BASE64 = "^[A-Za-z0-9+/_=-]+$"
_NAME = "^[a-z][a-z0-9]*$"
PATTERN_WORDS = {
    _ID: "expected an ISCC-ID: 'ISCC:' and 16 characters of base32 in upper case (A-Z, 2-7)",
    _CODE: "expected an ISCC-CODE: 'ISCC:' and base32 in upper case (A-Z, 2-7), no padding",
    _BASE64: "expected base64url: letters, digits, '-' and '_'",
    _NAME: "expected a name: a lower-case letter, then lower-case letters and digits, 32 at most",
}
"""What a text that does not fit is told."""

IsccId = Annotated[
    str,
    Meta(
        pattern=_ID,
        description="ISCC-ID of version 1: realm 0 (`ISCC:MAI…`) or realm 1 (`ISCC:MEI…`).",
        examples=["ISCC:MAIGBISBQHSAAEAB"],
    ),
]
IsccCodeText = Annotated[
    str,
    Meta(
        pattern=_CODE,
        description="ISCC-CODE (or a lone ISCC-UNIT), canonical: upper case, no padding.",
        examples=["ISCC:KACZV4JC7CI7XOYQS5PRYKCXN3GLVMD7UMQ7CVVKJKJTNWKIIH34THY"],
    ),
]
IsccUnitText = Annotated[
    str,
    Meta(
        description="ISCC-UNIT of 64, 128, 192 or 256 bits: META, SEMANTIC, CONTENT, DATA or INSTANCE.", examples=["ISCC:EAAZOXY4FBLW5TF2"]
    ),
]
SimprintText = Annotated[
    str,
    Meta(
        pattern=_BASE64,
        min_length=11,
        description="Simprint of 64, 128, 192 or 256 bits without header, base64url without padding.",
        examples=["mDm7J-DD7Ao"],
    ),
]
QuerySimprintText = Annotated[
    str, Meta(pattern=_BASE64, description="Simprint to search for, base64url without padding.", examples=["mDm7J-DD7Ao"])
]
QueryChunks = Annotated[list[QuerySimprintText], Meta(min_length=1)]
Score = Annotated[float, Meta(ge=0.0, le=1.0)]
Uint32 = Annotated[int, Meta(ge=0, le=4294967295)]
Count = Annotated[int, Meta(ge=0)]
IndexName = Annotated[
    str,
    Meta(
        pattern=_NAME,
        min_length=1,
        max_length=32,
        description="Name of an index: a lower-case letter, then letters and digits.",
        examples=["photos"],
    ),
]


class IsccIndex(msgspec.Struct, frozen=True, omit_defaults=True):
    """An index. To create one, only `name` is read."""

    name: IndexName
    assets: Annotated[Count, Meta(description="Number of assets.")] | None = None
    size: Annotated[Count, Meta(description="Stored bytes in MiB, rounded down.")] | None = None
    sizes: (
        Annotated[dict[str, Count], Meta(description="The same for records (`lmdb`), each unit type and each `SIMPRINT_` type.")] | None
    ) = None


class IsccSimprint(msgspec.Struct, frozen=True):
    """One chunk of an asset."""

    simprint: SimprintText
    offset: Annotated[Uint32, Meta(description="Where the chunk begins: byte of UTF-8 text, millisecond, or x and y packed.")]
    size: Annotated[Uint32, Meta(description="How long the chunk is, in the same unit.")]


Chunks = Annotated[list[IsccSimprint], Meta(min_length=1)]


class IsccEntry(msgspec.Struct, frozen=True):
    """An asset. An add replaces code, units and metadata wholly. `simprints` left out leaves stored ones, `{}` removes them."""

    iscc_id: IsccId | None = None
    iscc_code: IsccCodeText | None = None
    units: (
        Annotated[list[IsccUnitText], Meta(min_length=2, description="Units of the asset. Without them they are taken from `iscc_code`.")]
        | None
    ) = None
    simprints: Annotated[dict[str, Chunks], Meta(description="Chunks by simprint type, such as `CONTENT_TEXT_V0`.")] | None = None
    metadata: (
        Annotated[Raw, Meta(description="Any JSON object. Kept as it was sent.", extra_json_schema={"type": ["object", "null"]})]
        | UnsetType
    ) = UNSET


class IsccStoredEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An asset as it is read back: what it has, never its simprints."""

    iscc_id: IsccId
    iscc_code: IsccCodeText | None = None
    units: list[IsccUnitText] | None = None
    metadata: Annotated[Raw, Meta(description="As it was sent.", extra_json_schema={"type": "object"})] | None = None


class IsccAddResult(msgspec.Struct, frozen=True):
    """What an add did with one asset. Results stand in the order of the request."""

    iscc_id: IsccId
    status: Annotated[str, Meta(description="`created` or `updated`.", extra_json_schema={"enum": ["created", "updated"]})]


class IsccQuery(msgspec.Struct, frozen=True):
    """What to search for. `iscc_id` searches for what resembles a stored asset, whatever else is given; `units` go before `iscc_code`."""

    iscc_id: IsccId | UnsetType | None = UNSET
    iscc_code: IsccCodeText | UnsetType | None = UNSET
    units: Annotated[list[IsccUnitText], Meta(min_length=1, description="Units to search for.")] | UnsetType | None = UNSET
    simprints: Annotated[dict[str, QueryChunks], Meta(description="Simprints to search for, by type.")] | UnsetType | None = UNSET


MatchMetadata = Annotated[
    Raw,
    Meta(
        description="Metadata of the asset, null when there is none. A `name` that is no text and a `source` that is no URL are left out.",
        extra_json_schema={"type": ["object", "null"]},
    ),
]


class IsccGlobalMatch(msgspec.Struct, frozen=True):
    """An asset whose units match."""

    iscc_id: IsccId
    score: Score
    types: Annotated[dict[str, Score], Meta(min_length=1, description="Best similarity for each unit type of the query.")]
    metadata: MatchMetadata


class IsccMatchedChunk(msgspec.Struct, frozen=True):
    """A simprint of the query and the chunk that it matched."""

    query: SimprintText
    match: SimprintText
    score: Score
    freq: Annotated[int, Meta(ge=1, description="Number of assets that have the matched simprint.")]
    offset: Uint32
    size: Uint32
    content: None = None


class IsccChunkType(msgspec.Struct, frozen=True):
    """What an asset matched in one simprint type."""

    score: Score
    matches: Count
    queried: Annotated[int, Meta(ge=1)]
    chunks: list[IsccMatchedChunk]


class IsccChunkMatch(msgspec.Struct, frozen=True):
    """An asset whose simprints match."""

    iscc_id: IsccId
    score: Score
    types: Annotated[dict[str, IsccChunkType], Meta(min_length=1)]
    source: Annotated[str, Meta(description="`source` of the metadata when it is an absolute URL.")] | None
    metadata: MatchMetadata


class IsccSearchResult(msgspec.Struct, frozen=True):
    """Matches, best first; equal scores in the order of their ISCC-IDs."""

    query: Annotated[IsccQuery, Meta(description="The query as it was understood.")]
    global_matches: list[IsccGlobalMatch]
    chunk_matches: list[IsccChunkMatch]
    truncated: Annotated[bool, Meta(description="Present when more candidates matched than ISCC_SEARCH_MAX_CANDIDATES.")] | UnsetType = (
        UNSET
    )


class HttpError(msgspec.Struct, frozen=True):
    """Why a request was refused."""

    detail: str


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, and where."""

    loc: Annotated[
        list[str | int], Meta(description="The place: `body` or `query`, then names and positions.", examples=[["body", 3, "units", 1]])
    ]
    msg: str
    type: str


class ValidationError(msgspec.Struct, frozen=True):
    """Which parts of a request are wrong."""

    detail: Annotated[list[Problem], Meta(min_length=1)]


class InternalError(msgspec.Struct, frozen=True):
    """A defect of the service. The log has a line with the same request id."""

    detail: str
    request_id: str


class Health(msgspec.Struct, frozen=True):
    """The process lives."""

    status: str


class LogLevel(msgspec.Struct, frozen=True):
    """What the log has: lines of this level and above."""

    level: Annotated[str, Meta(extra_json_schema={"enum": ["debug", "info", "warning", "error", "critical"]})]


class Readiness(msgspec.Struct, frozen=True, omit_defaults=True):
    """Whether every acknowledged asset is served."""

    status: Annotated[str, Meta(extra_json_schema={"enum": ["ready", "not_ready"]})]
    state: str = ""
    reason: str = ""
    phase: Annotated[str, Meta(description="What of a long state goes on. The figures belong to it.")] = ""
    bytes_done: Count | None = None
    bytes_total: Annotated[Count, Meta(description="0 when it is not known before the end.")] | None = None
    eta_s: Annotated[float, Meta(description="Seconds that are left at the speed so far.")] | None = None


class Status(msgspec.Struct, frozen=True):
    """What runs here."""

    version: str
    mode: str
    network: None
    state: Annotated[str, Meta(description="restoring, opening, catching-up, ready, draining or failed.")]
    reason: str
    snapshots: Annotated[SnapshotStatus | None, Meta(description="Null when ISCC_SEARCH_SNAPSHOT_URL is `none`.")]


class Service(msgspec.Struct, frozen=True):
    """Name and links of the service."""

    title: str
    description: str
    version: str
    docs: str
    mode: str
    network: None
