"""From bodies to what the engine takes. Every byte sequence gives a request, an ApiError or, for ISCC-IDs, a CodeError.

Runs on the read lane. Nothing here looks at what is stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from service.api.access import Limits
from service.api.errors import BadRequest, Unprocessable, unprocessable
from service.api.jsontext import UNNAMED, Place, check_text, decode
from service.api.schema import (
    Chunks,
    IsccCodeText,
    IsccEntry,
    IsccId,
    IsccIndex,
    IsccQuery,
    IsccSimprint,
    IsccUnitText,
    Problem,
    QueryChunks,
)
from service.engine import codes
from service.engine.codes import CodeError
from service.engine.layout import pack_simprints
from service.engine.requests import AddAssets, Asset, Body, CreateIndex, Query, Simprint, Simprints

try:
    from service.api import _chunks
except ImportError:  # there was no compiler where this was installed: all is read by the strict decoder
    PACKED_BY = "python"
else:
    PACKED_BY = "c"

T = TypeVar("T")

PROBLEMS_MAX = 20
"""Problems of a batch that are reported; the rest is left to the next attempt."""
COMMAS_MAX = 500_000
"""Bodies with more are looked through first, so that a list of millions of small things is not built only to be refused."""


class _Head(msgspec.Struct, gc=False):
    """As much of an asset as it takes to count assets."""

    iscc_id: IsccId | None


class _PlainEntry(msgspec.Struct, gc=False):
    """An `IsccEntry` whose simprints are read by `pack`."""

    iscc_id: IsccId | None = None
    iscc_code: IsccCodeText | None = None
    units: Annotated[list[IsccUnitText], Meta(min_length=2)] | None = None
    simprints: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Read(NamedTuple):
    """An asset with its simprints, which are packed already when they were written plainly."""

    entry: IsccEntry | _PlainEntry
    simprints: Mapping[str, Simprints | list[IsccSimprint]] | None


_INDEX_NAME = re.compile("[a-z][a-z0-9]{0,31}", re.ASCII)
_HEADS = msgspec.json.Decoder(list[_Head])
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_PLAIN_ENTRY = msgspec.json.Decoder(_PlainEntry)
_ENTRY = msgspec.json.Decoder(IsccEntry)
_QUERY = msgspec.json.Decoder(IsccQuery)
_INDEX = msgspec.json.Decoder(IsccIndex)
_OBJECT = msgspec.json.Decoder(dict[str, Any])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHUNKS = msgspec.json.Decoder(Chunks)
_QUERY_CHUNKS = msgspec.json.Decoder(QueryChunks)


def decode_index(body: bytes) -> CreateIndex:
    name = decode(_INDEX, check_text(body), ["body"]).name
    if not is_index_name(name):
        raise unprocessable(["body", "name"], "a name is a lower-case letter, then letters and digits, 32 at most", "type_error")
    return CreateIndex(name)


def is_index_name(name: str) -> bool:
    return _INDEX_NAME.fullmatch(name) is not None


def decode_query(body: bytes) -> IsccQuery:
    body = check_text(body)
    try:
        return decode(_QUERY, body, ["body"])
    except Unprocessable as error:
        raise _named(error, body, _QUERY_CHUNKS, ["body"]) from error


def decode_assets(index: str, body: bytes, limits: Limits) -> AddAssets:
    """All assets of an add. Up to PROBLEMS_MAX problems are reported together."""
    body = check_text(body)
    if body.count(b",") > COMMAS_MAX:
        _check_count(len(decode(_HEADS, body, ["body"])), limits)
    elements = decode(_ELEMENTS, body, ["body"])
    _check_count(len(elements), limits)
    assets: list[Asset] = []
    problems: list[Problem] = []
    for position, element in enumerate(elements):
        try:
            assets.append(_asset(element, ["body", position], limits))
        except Unprocessable as error:
            problems += error.problems
            if len(problems) >= PROBLEMS_MAX:
                break
    if problems:
        raise Unprocessable(problems)
    return AddAssets(index, assets)


def to_query(query: IsccQuery, limits: Limits, *, exact: bool) -> Query:
    """What the engine searches for. With `iscc_id` everything else is left aside; `units` go before `iscc_code`."""
    if query.iscc_id:
        realm, key = codes.parse_id(query.iscc_id)
        return Query([], {}, realm, key, exact)
    _check_units(query.units or [], ["body"], limits)
    units = _parse_many(codes.parse_unit, query.units or [], ["body", "units"])
    if query.iscc_code:
        code = parse(codes.parse_code, query.iscc_code, ["body", "iscc_code"])
        units = units or codes.decompose(code)
    simprints = _query_simprints(query.simprints or {}, limits)
    if not units and not simprints:
        raise empty_query()
    return Query(units, simprints, exact=exact)


def empty_query() -> BadRequest:
    return BadRequest("Query must have 'iscc_code', 'units', or 'simprints' for search")


def over_limit(loc: Place, found: str, limit: int, setting: str) -> Unprocessable:
    return unprocessable(loc, f"{found}: at most {limit} are allowed, the limit is ISCC_SEARCH_{setting}", "limit")


def parse(read: Callable[[str], T], text: str, loc: Place) -> T:
    """One ISCC string. Raises Unprocessable with its place."""
    try:
        return read(text)
    except CodeError as error:
        raise unprocessable(loc, str(error), "iscc") from error


def _parse_many(read: Callable[[str], T], texts: Sequence[str], loc: Place) -> list[T]:
    """All of them at once; only when one is wrong it is looked for."""
    try:
        return [read(text) for text in texts]
    except CodeError:
        return [parse(read, text, [*loc, position]) for position, text in enumerate(texts)]


def _asset(element: msgspec.Raw, loc: Place, limits: Limits) -> Asset:
    entry, simprints = _read_plain(element) or _read_strictly(element, loc)
    if entry.iscc_id is None:
        raise BadRequest("Asset must have iscc_id field when adding to index")
    realm, key = codes.parse_id(entry.iscc_id)
    _check_units(entry.units or [], loc, limits)
    return Asset(
        realm,
        key,
        None if entry.iscc_code is None else parse(codes.parse_code, entry.iscc_code, [*loc, "iscc_code"]),
        None if entry.units is None else _parse_many(codes.parse_unit, entry.units, [*loc, "units"]),
        _metadata(entry.metadata, loc, limits),
        None if simprints is None else _simprints(simprints, loc, limits),
    )


def _read_plain(element: msgspec.Raw) -> _Read | None:
    """The quick way. None when the strict decoder must look, which alone says what is wrong."""
    if PACKED_BY != "c" or bytes(element).count(b'"simprints"') > 1:
        return None
    try:
        entry = _PLAIN_ENTRY.decode(element)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if entry.simprints is msgspec.UNSET:
        return _Read(entry, None)
    packed = _chunks.pack(entry.simprints)
    return None if packed is None else _Read(entry, {name: Simprints(*found) for name, found in packed.items()})


def _read_strictly(element: msgspec.Raw, loc: Place) -> _Read:
    try:
        entry = decode(_ENTRY, element, loc)
    except Unprocessable as error:
        raise _named(error, element, _CHUNKS, loc) from error
    return _Read(entry, entry.simprints)


def _named(error: Unprocessable, body: bytes | msgspec.Raw, chunks: msgspec.json.Decoder[Any], loc: Place) -> Unprocessable:
    """The same problem with the name of the simprint type, which the decoder leaves out."""
    problem = error.problems[0]
    if UNNAMED not in problem.loc or "simprints" not in problem.loc:
        return error
    try:
        types = decode(_MEMBERS, decode(_MEMBERS, body, loc)["simprints"], loc)
        for name, raw in types.items():
            decode(chunks, raw, [*loc, "simprints", name])
    except Unprocessable as named:
        return named
    return error


def _metadata(raw: msgspec.Raw | msgspec.UnsetType, loc: Place, limits: Limits) -> bytes | None:
    if raw is msgspec.UNSET:
        return None
    text = bytes(raw)
    if text == b"null":
        return None
    if len(text) > limits.max_metadata_bytes:
        raise over_limit([*loc, "metadata"], f"{len(text)} bytes of metadata", limits.max_metadata_bytes, "MAX_METADATA_BYTES")
    decode(_OBJECT, text, [*loc, "metadata"])
    return text


def _simprints(types: Mapping[str, Simprints | list[IsccSimprint]], loc: Place, limits: Limits) -> dict[str, Simprints]:
    _check_simprints(types, loc, limits.max_simprints if limits.simprints else None, "MAX_SIMPRINTS")
    return {name: chunks if isinstance(chunks, Simprints) else _packed(chunks, [*loc, "simprints", name]) for name, chunks in types.items()}


def _packed(chunks: list[IsccSimprint], loc: Place) -> Simprints:
    bodies = _bodies([chunk.simprint for chunk in chunks], loc, ["simprint"])
    packed = pack_simprints(Simprint(body, chunk.offset, chunk.size) for body, chunk in zip(bodies, chunks, strict=True))
    return Simprints(len(bodies[0]), packed)


def _query_simprints(types: dict[str, list[str]], limits: Limits) -> dict[str, list[Body]]:
    _check_simprints(types, ["body"], limits.max_query_simprints if limits.simprints else None, "MAX_QUERY_SIMPRINTS")
    return {name: _bodies(texts, ["body", "simprints", name], []) for name, texts in types.items()}


def _bodies(texts: Sequence[str], loc: Place, member: Place) -> list[Body]:
    """Simprints of one type, which all have one width."""
    try:
        bodies = [codes.parse_simprint(text) for text in texts]
    except CodeError:
        bodies = [parse(codes.parse_simprint, text, [*loc, position, *member]) for position, text in enumerate(texts)]
    for position, body in enumerate(bodies):
        if len(body) != len(bodies[0]):
            bits = f"{len(body) * 8} bits, the first has {len(bodies[0]) * 8}"
            raise unprocessable([*loc, position, *member], f"all simprints of a type have one width: this one has {bits}", "iscc")
    return bodies


def _check_simprints(types: Mapping[str, Sized], loc: Place, limit: int | None, setting: str) -> None:
    """No limit: none are accepted."""
    total = sum(map(len, types.values()))
    if limit is None:
        if types:
            raise unprocessable([*loc, "simprints"], "simprints are switched off here: ISCC_SEARCH_SIMPRINTS is no", "switched_off")
        return
    if total > limit:
        raise over_limit([*loc, "simprints"], f"{total} simprints", limit, setting)
    for name in types:
        parse(codes.check_simprint_type, name, [*loc, "simprints", name])


def _check_units(texts: Sequence[str], loc: Place, limits: Limits) -> None:
    if len(texts) > limits.max_units:
        raise over_limit([*loc, "units"], f"{len(texts)} units", limits.max_units, "MAX_UNITS")


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.max_assets:
        raise over_limit(["body"], f"{count} assets", limits.max_assets, "MAX_ASSETS")
