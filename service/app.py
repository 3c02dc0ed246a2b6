"""The application: routes, error table and layers put together. The composition root."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from litestar import Litestar
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.types import ASGIApp

from service.api import assets, health, indexes, loglevel, search, snapshots, web
from service.api.access import Access, Limits
from service.api.auth import key_guard
from service.api.body import Bodies
from service.api.cors import Cors
from service.api.errors import exception_handlers
from service.api.reply import Reply
from service.api.traffic import Traffic, Watch
from service.logs import RequestLog
from service.settings import Settings
from service.telemetry import Metrics


def create_app(
    access: Access, metrics: Metrics, settings: Settings, log: RequestLog | None = None, watches: Sequence[Watch] = ()
) -> ASGIApp:
    """An ASGI application without lifespan: the process around it opens and closes the engine."""
    inner = create_router(access, limits(settings), settings.api_secret)
    return Traffic(Cors(inner, settings.cors_origins), metrics, log, watches)


def create_router(access: Access, bounds: Limits, secret: str | None) -> Litestar:
    guards = [] if secret is None else [key_guard(secret)]
    bodies = Bodies(access, bounds.read_queue_bytes)
    guarded = [part.routes(access, bodies, bounds, guards) for part in (indexes, assets, search)]
    handlers = [
        *itertools.chain(*guarded),
        *snapshots.routes(access, guards),
        *loglevel.routes(guards),
        *health.routes(access),
        *web.routes(bounds),
    ]
    return Litestar(
        route_handlers=[*_without_options(handlers), *handlers],
        exception_handlers=exception_handlers(),
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def limits(settings: Settings) -> Limits:
    return Limits(
        max_body_bytes=settings.max_body_bytes,
        max_query_bytes=settings.max_query_bytes,
        read_queue_bytes=settings.read_queue_bytes,
        max_assets=settings.max_assets,
        max_units=settings.max_units,
        max_simprints=settings.max_simprints,
        max_query_simprints=settings.max_query_simprints,
        max_metadata_bytes=settings.max_metadata_bytes,
        max_limit=settings.max_limit,
    )


def _without_options(handlers: list[HTTPRouteHandler]) -> list[HTTPRouteHandler]:
    """Litestar would answer OPTIONS by itself; here it is a wrong method like any other unless it is a preflight."""
    methods: dict[str, set[str]] = {}
    for handler in handlers:
        for path in handler.paths:
            methods.setdefault(path, set()).update(map(str, handler.http_methods))
    return [_refuse_options(path, sorted(allowed)) for path, allowed in methods.items()]


def _refuse_options(path: str, allowed: list[str]) -> HTTPRouteHandler:
    @HTTPRouteHandler(path, http_method="OPTIONS", status_code=200)
    async def refuse() -> Reply:
        raise MethodNotAllowedException(headers={"allow": ", ".join(allowed)})

    return refuse
