"""Routes of snapshots: how the bucket stands, what it holds, a checkpoint or a drill now."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard

from service.api.access import Access, Snapshots
from service.api.reply import Reply, json_reply
from service.engine.errors import NotFound

DIGITS_MAX = 18


def routes(access: Access, guards: list[Guard]) -> list[HTTPRouteHandler]:
    @get("/snapshots", guards=guards)
    async def list_snapshots() -> Reply:
        return json_reply(200, msgspec.json.encode(await _bucket(access).generations()))

    @post("/snapshots", guards=guards)
    async def create_snapshot() -> Reply:
        return json_reply(201, msgspec.json.encode(await _bucket(access).create()))

    @get("/snapshots/status", guards=guards)
    async def snapshot_status() -> Reply:
        return json_reply(200, msgspec.json.encode(_bucket(access).status()))

    @post("/snapshots/drill", guards=guards)
    async def drill_snapshot() -> Reply:
        return json_reply(200, msgspec.json.encode(await _bucket(access).drill()))

    @get("/snapshots/{generation:str}", guards=guards)
    async def get_snapshot(request: Request[Any, Any, Any]) -> Reply:
        return json_reply(200, msgspec.json.encode(await _bucket(access).generation(_number(request))))

    return [list_snapshots, create_snapshot, snapshot_status, drill_snapshot, get_snapshot]


def _bucket(access: Access) -> Snapshots:
    if access.snapshots is None:
        raise NotFound("there are no snapshots: ISCC_SEARCH_SNAPSHOT_URL is none")
    return access.snapshots


def _number(request: Request[Any, Any, Any]) -> int:
    """The generation of the path. Raises NotFound for what is no number."""
    text: str = request.scope["path_params"]["generation"]
    if not (text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX):
        raise NotFound(f"there is no generation '{text}': generations are whole numbers")
    return int(text)
