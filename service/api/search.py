"""Routes of search. One hop to the read lane: decoding, searching and encoding happen there."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard

from service.api import decode, render
from service.api.access import Access, Limits
from service.api.body import read_body
from service.api.indexes import index_name
from service.api.limit import read_code, read_limit
from service.api.reply import Reply, json_reply
from service.api.schema import IsccQuery
from service.engine.engine import Engine

_ENCODER = msgspec.json.Encoder()


def routes(access: Access, limits: Limits, guards: list[Guard]) -> list[HTTPRouteHandler]:
    @post("/indexes/{name:str}/search", guards=guards)
    async def search(request: Request[Any, Any, Any]) -> Reply:
        limit = read_limit(request, limits.max_limit)
        body = await read_body(request, limits.max_query_bytes, "MAX_QUERY_BYTES")
        return json_reply(200, await access.read(partial(_search_body, index_name(request), body, limit, limits)))

    @get("/indexes/{name:str}/search", guards=guards)
    async def search_code(request: Request[Any, Any, Any]) -> Reply:
        limit = read_limit(request, limits.max_limit)
        return json_reply(200, await access.read(partial(_search, index_name(request), read_code(request), limit, limits)))

    return [search, search_code]


def _search_body(name: str, body: bytes, limit: int, limits: Limits, engine: Engine) -> bytes:
    return _search(name, decode.decode_query(body), limit, limits, engine)


def _search(name: str, asked: IsccQuery, limit: int, limits: Limits, engine: Engine) -> bytes:
    query = decode.to_query(asked, limits)
    return _ENCODER.encode(render.search_result(asked, query, engine.search(name, query, limit)))
