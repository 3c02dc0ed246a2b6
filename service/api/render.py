"""From what the engine answers to the bodies of the interface."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw

from service.api.decode import empty_query
from service.api.schema import (
    IsccChunkMatch,
    IsccChunkType,
    IsccGlobalMatch,
    IsccIndex,
    IsccMatchedChunk,
    IsccQuery,
    IsccSearchResult,
    IsccStoredEntry,
)
from service.engine import codes
from service.engine.metadata import source_url
from service.engine.requests import Body, Chunk, ChunkMatch, IndexInfo, Match, Query, SearchAnswer, StoredAsset, TypeMatch

MIB = 1 << 20
NULL = Raw(b"null")


def index(info: IndexInfo) -> IsccIndex:
    total = info.record_bytes + sum(info.type_bytes.values())
    sizes = {"lmdb": info.record_bytes // MIB} | {name: size // MIB for name, size in info.type_bytes.items()}
    return IsccIndex(info.name, info.assets, total // MIB, sizes)


def entry(iscc_id: str, asset: StoredAsset) -> IsccStoredEntry:
    return IsccStoredEntry(
        iscc_id,
        None if asset.code is None else codes.encode(asset.code),
        None if asset.units is None else [codes.encode(unit) for unit in asset.units],
        None if asset.metadata is None else Raw(asset.metadata),
    )


def search_result(asked: IsccQuery, query: Query, answer: SearchAnswer) -> IsccSearchResult:
    """Raises BadRequest when the search started from an asset that has nothing to search for."""
    texts: dict[Body, str] = {}
    return IsccSearchResult(
        _echo(asked, query) if answer.asset is None else _stored_echo(answer.asset, answer),
        [_match(match) for match in answer.matches],
        [_chunk_match(match, texts) for match in answer.chunk_matches],
        True if answer.truncated else UNSET,
    )


def _echo(asked: IsccQuery, query: Query) -> IsccQuery:
    """What was sent, and of code and units the one that follows from the other."""
    if asked.units and not asked.iscc_code:
        code = codes.compose(query.units)
        return asked if code is None else msgspec.structs.replace(asked, iscc_code=codes.encode(code))
    if asked.iscc_code and not asked.units:
        return msgspec.structs.replace(asked, units=[codes.encode(unit) for unit in query.units])
    return asked


def _stored_echo(asset: StoredAsset, answer: SearchAnswer) -> IsccQuery:
    units = asset.units or ([] if asset.code is None else codes.decompose(asset.code))
    code = asset.code or codes.compose(units)
    simprints = {name: [codes.format_simprint(body) for body in bodies] for name, bodies in answer.simprints.items()}
    if not units and not simprints:
        raise empty_query()
    return IsccQuery(
        iscc_code=None if code is None else codes.encode(code),
        units=[codes.encode(unit) for unit in units] or None,
        simprints=simprints or None,
    )


def _match(match: Match) -> IsccGlobalMatch:
    return IsccGlobalMatch(codes.format_id(match.realm, match.key), match.score, match.types, _metadata(match.metadata))


def _chunk_match(match: ChunkMatch, texts: dict[Body, str]) -> IsccChunkMatch:
    types = {name: _chunk_type(found, texts) for name, found in match.types.items()}
    return IsccChunkMatch(
        codes.format_id(match.realm, match.key), match.score, types, source_url(match.metadata), _metadata(match.metadata)
    )


def _chunk_type(match: TypeMatch, texts: dict[Body, str]) -> IsccChunkType:
    return IsccChunkType(match.score, match.matches, match.queried, [_chunk(chunk, texts) for chunk in match.chunks])


def _chunk(chunk: Chunk, texts: dict[Body, str]) -> IsccMatchedChunk:
    return IsccMatchedChunk(
        texts.get(chunk.query) or _text(chunk.query, texts),
        texts.get(chunk.match) or _text(chunk.match, texts),
        *(chunk.score, chunk.freq, chunk.offset, chunk.size),
    )


def _text(body: Body, texts: dict[Body, str]) -> str:
    """A query simprint stands in the answer as often as there are matches: it is written once."""
    text = texts[body] = codes.format_simprint(body)
    return text


def _metadata(public: bytes | None) -> Raw:
    return NULL if public is None else Raw(public)
