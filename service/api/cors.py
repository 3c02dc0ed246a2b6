"""Cross-origin requests: preflights are answered here, other answers get the headers that let a page of an allowed origin read them."""

from __future__ import annotations

from typing import Any

from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.reply import Reply, typed_reply

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
MAX_AGE_SECONDS = 600
PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
EXPOSED = "x-request-id, retry-after, ratelimit-policy, ratelimit-limit, ratelimit-remaining, ratelimit-reset"


class Cors:
    """Wraps the application. Lives as long as it does; event loop only."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...]) -> None:
        self._app = app
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin")
        if origin is None:
            await self._app(scope, receive, send)
        elif scope.get("method") == "OPTIONS" and _header(scope, b"access-control-request-method") is not None:
            await self._preflight(scope, origin)(scope, receive, send)
        else:
            await self._app(scope, receive, self._with_headers(origin, send))

    def _allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins

    def _origin_headers(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        headers = [] if self._any else [(b"vary", b"Origin")]
        if self._allows(origin):
            headers += [
                (b"access-control-allow-origin", b"*" if self._any else origin),
                (b"access-control-expose-headers", EXPOSED.encode()),
            ]
        return headers

    def _with_headers(self, origin: bytes, send: Send) -> Send:
        added = self._origin_headers(origin)

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        return send_with_headers

    def _preflight(self, scope: Scope, origin: bytes) -> Reply:
        method = (_header(scope, b"access-control-request-method") or b"").decode("latin-1")
        faults = [*(() if self._allows(origin) else ("origin",)), *(() if method in METHODS else ("method",))]
        headers = {
            "vary": PREFLIGHT_VARY,
            "access-control-allow-methods": ", ".join(METHODS),
            "access-control-max-age": str(MAX_AGE_SECONDS),
        }
        if self._allows(origin):
            headers["access-control-allow-origin"] = "*" if self._any else origin.decode("latin-1")
        if asked := _header(scope, b"access-control-request-headers"):
            headers["access-control-allow-headers"] = asked.decode("latin-1")
        body = f"Disallowed CORS {', '.join(faults)}" if faults else "OK"
        return typed_reply(400 if faults else 200, "text/plain; charset=utf-8", body.encode(), headers)


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)
