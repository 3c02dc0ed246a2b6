"""Routes of search. One hop to the read lane: decoding, searching and encoding happen there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard, Middleware

from service.api import decode, render
from service.api.access import Access, Limits
from service.api.body import Bodies, Bound
from service.api.indexes import index_name
from service.api.querystring import read_code, read_exact, read_limit
from service.api.reply import Reply, json_reply
from service.api.schema import IsccQuery
from service.engine.engine import Engine

_ENCODER = msgspec.json.Encoder()


def routes(
    access: Access, bodies: Bodies, limits: Limits, guards: list[Guard], middleware: Sequence[Middleware] = ()
) -> list[HTTPRouteHandler]:
    """`middleware` is the rate limit, if there is one."""
    bound = Bound(limits.max_query_bytes, "MAX_QUERY_BYTES")

    @post("/indexes/{name:str}/search", guards=guards, middleware=middleware)
    async def search(request: Request[Any, Any, Any]) -> Reply:
        limit, exact = read_limit(request, limits.max_limit), read_exact(request)
        return json_reply(200, await bodies.read(request, bound, partial(_search_body, index_name(request), limit, exact, limits)))

    @get("/indexes/{name:str}/search", guards=guards, middleware=middleware)
    async def search_code(request: Request[Any, Any, Any]) -> Reply:
        limit = read_limit(request, limits.max_limit)
        return json_reply(200, await access.read(partial(_search, index_name(request), limit, False, limits, read_code(request))))

    return [search, search_code]


def _search_body(name: str, limit: int, exact: bool, limits: Limits, body: bytes, engine: Engine) -> bytes:
    return _search(name, limit, exact, limits, decode.decode_query(body), engine)


def _search(name: str, limit: int, exact: bool, limits: Limits, asked: IsccQuery, engine: Engine) -> bytes:
    query = decode.to_query(asked, limits, exact=exact)
    return _ENCODER.encode(render.search_result(asked, query, engine.search(name, query, limit)))
