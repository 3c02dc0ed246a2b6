"""Routes of assets: add, read, delete."""

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
from service.api.indexes import index_name
from service.api.reply import Reply, empty_reply, json_reply
from service.api.schema import IsccAddResult
from service.engine import codes
from service.engine.engine import Engine
from service.engine.requests import AddAssets, Answer, DeleteAsset


def routes(access: Access, bodies: Bodies, limits: Limits, guards: list[Guard]) -> list[HTTPRouteHandler]:
    bound = Bound(limits.max_body_bytes, "MAX_BODY_BYTES")

    @post("/indexes/{name:str}/assets", guards=guards)
    async def add_assets(request: Request[Any, Any, Any]) -> Reply:
        remote = wants_remote(request)
        wanted, size = await bodies.read(request, bound, partial(_decode, index_name(request), limits))
        if not wanted.assets:
            return json_reply(201, b"[]")
        return json_reply(201, _results(wanted, await access.write(wanted, size, remote=remote)))

    @get("/indexes/{name:str}/assets/{iscc_id:str}", guards=guards)
    async def get_asset(request: Request[Any, Any, Any]) -> Reply:
        return json_reply(200, await access.read(partial(_get, index_name(request), _asset_id(request))))

    @delete("/indexes/{name:str}/assets/{iscc_id:str}", status_code=200, guards=guards)
    async def delete_asset(request: Request[Any, Any, Any]) -> Reply:
        remote = wants_remote(request)
        wanted = await access.read(partial(_to_delete, index_name(request), _asset_id(request)))
        await access.write(wanted, len(wanted.key), remote=remote)
        return empty_reply(204)

    return [add_assets, get_asset, delete_asset]


def _asset_id(request: Request[Any, Any, Any]) -> str:
    text: str = request.scope["path_params"]["iscc_id"]
    return text


def _decode(name: str, limits: Limits, body: bytes, engine: Engine) -> tuple[AddAssets, int]:
    """What to add, and the size of the body that it was."""
    wanted = decode.decode_assets(name, body, limits)
    if not wanted.assets:
        engine.index(name)  # nothing to write, but an index that is not there is still an error
    return wanted, len(body)


def _results(wanted: AddAssets, created: Answer) -> bytes:
    if created is None:
        raise AssertionError("an add is answered with one value for each asset")
    return msgspec.json.encode(
        [
            IsccAddResult(codes.format_id(asset.realm, asset.key), "created" if is_new else "updated")
            for asset, is_new in zip(wanted.assets, created, strict=True)
        ]
    )


def _get(name: str, text: str, engine: Engine) -> bytes:
    engine.index(name)  # an unknown index is reported before a bad ISCC-ID
    realm, key = codes.parse_id(text, fold=True)
    return msgspec.json.encode(render.entry(codes.format_id(realm, key), engine.asset(name, realm, key)))


def _to_delete(name: str, text: str, engine: Engine) -> DeleteAsset:
    engine.index(name)
    realm, key = codes.parse_id(text, fold=True)
    return DeleteAsset(name, realm, key)
