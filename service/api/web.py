"""Routes for people: name of the service, its documentation, its OpenAPI document."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import msgspec
from litestar import Request, get
from litestar.exceptions import NotFoundException
from litestar.handlers import HTTPRouteHandler

from service import __version__
from service.api.access import Limits, Switches
from service.api.errors import SwitchedOff
from service.api.reply import Reply, json_reply, typed_reply
from service.api.schema import Service

TITLE = "Tidepool"
DESCRIPTION = "Similarity search for ISCC codes"
YAML = "application/yaml"


def routes(limits: Limits, switches: Switches) -> list[HTTPRouteHandler]:
    about = msgspec.json.encode(Service(TITLE, DESCRIPTION, __version__, "/docs", "normal", None))

    # Made when somebody asks for the first time: most processes never need them, and start sooner.
    files = cache(partial(_files, limits))
    page = cache(partial(_page, limits))

    @get("/")
    async def root() -> Reply:
        return json_reply(200, about, {"vary": "Accept"})

    @get("/docs")
    async def docs_page() -> Reply:
        return typed_reply(200, "text/html; charset=utf-8", page())

    @get("/playground")
    async def playground() -> Reply:
        return json_reply(301, b"", {"location": "/"})

    @get("/openapi/{file:str}")
    async def openapi_file(request: Request[Any, Any, Any]) -> Reply:
        name: str = request.scope["path_params"]["file"]
        content = files().get(name)
        if content is None:
            raise NotFoundException
        return typed_reply(200, "application/json" if name.endswith(".json") else YAML, content)

    @get("/static/{path:path}")
    async def static() -> Reply:
        raise NotFoundException

    return [root, static, *((docs_page, playground, openapi_file) if switches.docs else _without_docs())]


def _without_docs() -> list[HTTPRouteHandler]:
    @get(["/docs", "/playground", "/openapi/{file:str}"])
    async def switched_off() -> Reply:
        raise SwitchedOff("DOCS")

    return [switched_off]


def _page(limits: Limits) -> bytes:
    from service.api import docs, openapi

    return docs.page(openapi.document(limits)).encode()


def _files(limits: Limits) -> dict[str, bytes]:
    """The document and each of its schemas. JSON is YAML, so one writer does."""
    from service.api import openapi

    document = openapi.document(limits)
    parts = {f"{name}.yaml": _text(schema) for name, schema in document["components"]["schemas"].items()}
    return {"openapi.json": _text(document), "openapi.yaml": _text(document), **parts}


def _text(value: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=1)
