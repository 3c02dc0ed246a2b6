"""Routes of the log level: which one holds, and another one until the process ends. They answer in every state of the process."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, get, put
from litestar.handlers import HTTPRouteHandler
from litestar.types import Guard

from service import logs
from service.api.errors import BadRequest
from service.api.reply import Reply, json_reply
from service.api.schema import LogLevel


def routes(guards: list[Guard]) -> list[HTTPRouteHandler]:
    @get("/log-level", guards=guards)
    async def get_log_level() -> Reply:
        return _reply()

    @put("/log-level/{level:str}", guards=guards)
    async def put_log_level(request: Request[Any, Any, Any]) -> Reply:
        level: str = request.scope["path_params"]["level"]
        if level not in logs.LEVELS:
            raise BadRequest(f"expected one of {', '.join(logs.LEVELS)} at the end of the path")
        logs.set_level(level)
        return _reply()

    return [get_log_level, put_log_level]


def _reply() -> Reply:
    return json_reply(200, msgspec.json.encode(LogLevel(logs.level())))
