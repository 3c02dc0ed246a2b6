"""The application: routes, error table and layers put together. The composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from litestar import Litestar
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler
from litestar.stores.base import Store
from litestar.types import ASGIApp, Middleware

from service.api import assets, health, indexes, loglevel, search, snapshots, web
from service.api.access import Access, Limits, Switches
from service.api.admission import Admission, Bounds
from service.api.auth import key_guard
from service.api.body import Bodies
from service.api.cors import Cors
from service.api.errors import exception_handlers
from service.api.reply import Reply
from service.api.traffic import Traffic, Watch
from service.logs import RequestLog
from service.meter import Meter
from service.settings import Settings


def create_app(access: Access, metrics: Meter, settings: Settings, log: RequestLog | None = None, watches: Sequence[Watch] = ()) -> ASGIApp:
    """An ASGI application without lifespan: the process around it opens and closes the engine."""
    limited, stores = _rate_limit(settings, metrics)
    inner = create_router(access, limits(settings), settings.api_secret, Switches(settings.docs, settings.metrics), limited, stores)
    admitted = Admission(inner, Bounds(settings.max_requests, settings.request_seconds))
    return Traffic(Cors(admitted, settings.cors_origins), metrics, log, settings.max_requests, watches)


def create_router(
    access: Access,
    bounds: Limits,
    secret: str | None,
    switches: Switches = Switches(),  # noqa: B008 - frozen
    search_middleware: Sequence[Middleware] = (),
    stores: Mapping[str, Store] = MappingProxyType({}),
) -> Litestar:
    guards = [] if secret is None else [key_guard(secret)]
    bodies = Bodies(access, bounds.read_queue_bytes)
    handlers = [
        *indexes.routes(access, bodies, bounds, guards),
        *assets.routes(access, bodies, bounds, guards),
        *search.routes(access, bodies, bounds, guards, search_middleware),
        *snapshots.routes(access, guards),
        *loglevel.routes(guards),
        *health.routes(access, switches),
        *web.routes(bounds, switches),
    ]
    return Litestar(
        route_handlers=[*_without_options(handlers), *handlers],
        exception_handlers=exception_handlers(),
        openapi_config=None,
        stores=dict(stores),
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
        simprints=settings.simprints,
    )


def _rate_limit(settings: Settings, metrics: Meter) -> tuple[list[Middleware], dict[str, Store]]:
    """Imported only when there is one."""
    if settings.rate_limit is None:
        return [], {}
    from service.api import ratelimit

    url = settings.rate_limit_redis_url if settings.rate_limit_store == "redis" else ""
    limited = ratelimit.Limited(settings.rate_limit, url, settings.trusted_proxies)
    stores = {ratelimit.STORE: ratelimit.store(limited, metrics.count_rate_limit_failure)}
    return [ratelimit.config(limited, settings.api_secret).middleware], stores


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
