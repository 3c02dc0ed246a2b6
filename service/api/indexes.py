"""Routes of indexes: list, create, look at, delete."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard

from service.api import decode, render
from service.api.access import Access, Limits
from service.api.body import Bodies, Bound
from service.api.durability import wants_remote
from service.api.reply import Reply, empty_reply, json_reply
from service.api.schema import IsccIndex
from service.engine.engine import Engine
from service.engine.errors import NotFound
from service.engine.requests import CreateIndex, DeleteIndex


def index_name(request: Request[Any, Any, Any]) -> str:
    """The index of the path. Raises NotFound for a name that no index can have."""
    name: str = request.scope["path_params"]["name"]
    if not decode.is_index_name(name):
        raise NotFound(f"Index '{name}' not found")
    return name


def routes(access: Access, bodies: Bodies, limits: Limits, guards: list[Guard]) -> list[HTTPRouteHandler]:
    bound = Bound(limits.max_query_bytes, "MAX_QUERY_BYTES")

    @get("/indexes", guards=guards)
    async def list_indexes() -> Reply:
        return json_reply(200, await access.read(_list))

    @post("/indexes", guards=guards)
    async def create_index(request: Request[Any, Any, Any]) -> Reply:
        remote = wants_remote(request)
        wanted = await bodies.read(request, bound, _decode)
        await access.write(wanted, len(wanted.name), remote=remote)
        return json_reply(201, msgspec.json.encode(IsccIndex(wanted.name, 0, 0)))

    @get("/indexes/{name:str}", guards=guards)
    async def get_index(request: Request[Any, Any, Any]) -> Reply:
        return json_reply(200, await access.read(partial(_get, index_name(request))))

    @delete("/indexes/{name:str}", status_code=200, guards=guards)
    async def delete_index(request: Request[Any, Any, Any]) -> Reply:
        name = index_name(request)
        await access.write(DeleteIndex(name), len(name), remote=wants_remote(request))
        return empty_reply(204)

    return [list_indexes, create_index, get_index, delete_index]


def _decode(body: bytes, _: Engine) -> CreateIndex:
    return decode.decode_index(body)


def _list(engine: Engine) -> bytes:
    return msgspec.json.encode([render.index(info) for info in engine.indexes()])


def _get(name: str, engine: Engine) -> bytes:
    return msgspec.json.encode(render.index(engine.index(name)))
