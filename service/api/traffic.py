"""What every request gets: an id, a line in the log, its place in the metrics. The outermost layer of the application."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Receive, Scope, Send

from service.api.errors import TooLong, to_reply
from service.logs import REQUEST_ID, RequestLog
from service.meter import Meter

PATH_CHARS_MAX = 1024
DRAIN_BYTES_MAX = 1 << 18
DRAIN_SECONDS_MAX = 1.0
UNMATCHED = "unmatched"
Watch = Callable[[str, str, str, int, float, Iterable[tuple[bytes, bytes]]], None]
"""Told of each request: id, method, route, status, seconds, headers."""
_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_CLOSE = ((b"connection", b"close"),)
"""Answers that come before the whole body was read say so: the server drops such a connection, and clients must not use it again."""
_LENGTH_DIGITS_MAX = 16
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")


class Traffic:
    """Lives as long as the application; event loop only."""

    def __init__(self, app: ASGIApp, metrics: Meter, log: RequestLog | None, max_requests: int, watches: Sequence[Watch] = ()) -> None:
        self._app = app
        self._log = log
        self._watches = watches
        self._metrics = metrics
        self._prefix = secrets.token_hex(4)
        self._count = 0
        self._in_flight = 0
        metrics.show_requests(lambda: self._in_flight, max_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            return  # the server is started without websockets and lifespan
        started = time.perf_counter()
        request_id, announced = self._look_at(scope["headers"])
        unread = announced != 0
        REQUEST_ID.set(request_id.decode())
        status = 500

        async def receive_and_see() -> Any:
            nonlocal unread
            message = await receive()
            unread = bool(message.get("more_body"))
            return message

        async def send_with_id(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if unread and 0 < announced <= DRAIN_BYTES_MAX:
                    await _drain(receive_and_see)
                message["headers"] = [*message["headers"], (b"x-request-id", request_id), *(_CLOSE if unread else ())]
            await send(message)

        self._in_flight += 1
        try:
            await self._answer(scope, receive_and_see if unread else receive, send_with_id)
        finally:
            self._in_flight -= 1
            self._note(scope, request_id, status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if len(scope["path"]) > PATH_CHARS_MAX:
            await to_reply(TooLong(f"the path is longer than {PATH_CHARS_MAX} characters"))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _look_at(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int]:
        """The id of the request, and the size of its body, -1 when it is not announced. A caller's id is taken when a log can hold it."""
        sent = b""
        size = 0
        for name, value in headers:
            if name == b"x-request-id":
                sent = value
            elif name == b"transfer-encoding":
                size = -1
            elif name == b"content-length":
                size = int(value) if value.isdigit() and len(value) < _LENGTH_DIGITS_MAX else -1
        if not _SAFE_ID.fullmatch(sent):
            self._count += 1
            sent = f"{self._prefix}-{self._count:x}".encode()
        return sent, size

    def _note(self, scope: HTTPScope, request_id: bytes, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = str(scope.get("path_template") or UNMATCHED)
        self._metrics.count_request(method, route, status, seconds)
        if self._log is not None:
            self._log(request_id.decode(), method, route, status, seconds)
        for watch in self._watches:
            watch(request_id.decode(), method, route, status, seconds, scope["headers"])


async def _drain(receive: Callable[[], Awaitable[Any]]) -> None:
    """The rest of a small body, which mostly is there already: so the connection can go on after an early refusal."""
    try:
        async with asyncio.timeout(DRAIN_SECONDS_MAX):
            while (await receive()).get("more_body"):
                pass
    except TimeoutError:
        return
