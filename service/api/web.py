"""Routes for people: name of the service, its documentation, its OpenAPI document."""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec
from litestar import Request, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

from service import __version__
from service.api import docs, openapi
from service.api.reply import Reply, json_reply, typed_reply
from service.api.schema import Service

TITLE = "Tidepool"
DESCRIPTION = "Similarity search for ISCC codes"
YAML = "application/yaml"


def routes() -> list[HTTPRouteHandler]:
    about = msgspec.json.encode(Service(TITLE, DESCRIPTION, __version__, "/docs", "normal", None))

    @get("/")
    async def root() -> Reply:
        return json_reply(200, about, {"vary": "Accept"})

    @get("/docs")
    async def docs_page() -> Reply:
        return typed_reply(200, "text/html; charset=utf-8", _page())

    @get("/playground")
    async def playground() -> Reply:
        return json_reply(301, b"", {"location": "/"})

    @get("/openapi/{file:str}")
    async def openapi_file(request: Request[Any, Any, Any]) -> Reply:
        name: str = request.scope["path_params"]["file"]
        content = _files().get(name)
        if content is None:
            raise NotFoundException
        return typed_reply(200, "application/json" if name.endswith(".json") else YAML, content)

    @get("/static/{path:path}")
    async def static() -> Reply:
        raise NotFoundException

    return [root, docs_page, playground, openapi_file, static]


@cache
def _files() -> dict[str, bytes]:
    """The document and each of its schemas. JSON is YAML, so one writer does."""
    document = openapi.document()
    schemas = document["components"]["schemas"]
    whole = msgspec.json.format(msgspec.json.encode(document), indent=1)
    parts = {f"{name}.yaml": msgspec.json.format(msgspec.json.encode(schema), indent=1) for name, schema in schemas.items()}
    return {"openapi.json": whole, "openapi.yaml": whole, **parts}


@cache
def _page() -> bytes:
    return docs.page(openapi.document()).encode()
