"""Who is let in, and for how long: a cap on requests that are answered at the same time, and a time limit for each.

Probes and metrics are always let in: they say what is wrong. What asks the bucket for work (`/snapshots`) may take minutes.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send

from service.api.body import BODY_SECONDS_MAX
from service.api.errors import Overtime, to_reply
from service.engine.errors import Busy

ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})
PATIENT = "/snapshots"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Bounds(msgspec.Struct, frozen=True):
    """Settings of the same names."""

    max_requests: int
    request_seconds: int


class Admission:
    """Wraps the application. Lives as long as it does; event loop only."""

    def __init__(self, app: ASGIApp, bounds: Bounds) -> None:
        self._app = app
        self._bounds = bounds
        self._admitted = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path in ALWAYS:
            await self._app(scope, receive, send)
        elif self._admitted >= self._bounds.max_requests:
            text = f"{self._admitted} requests are answered already (ISCC_SEARCH_MAX_REQUESTS): nothing was done, send the request again"
            await to_reply(Busy(text))(scope, receive, send)
        else:
            self._admitted += 1
            try:
                await (self._app if path.startswith(PATIENT) else self._in_time)(scope, receive, send)
            finally:
                self._admitted -= 1

    async def _in_time(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The time for a body has its own limit: the clock of the request begins when it is complete."""
        seconds = self._bounds.request_seconds
        has_body = scope.get("method") in _WITH_BODY
        clock = asyncio.timeout(seconds + BODY_SECONDS_MAX * has_body)
        begun = False

        async def receive_and_see() -> Any:
            message = await receive()
            if not message.get("more_body"):
                clock.reschedule(asyncio.get_running_loop().time() + seconds)
            return message

        async def send_and_see(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            async with clock:
                await self._app(scope, receive_and_see if has_body else receive, send_and_see)
        except TimeoutError:
            if begun or not clock.expired():
                raise
            await to_reply(_overtime(str(scope.get("method")), seconds))(scope, receive, send)


def _overtime(method: str, seconds: int) -> Overtime:
    """What waits or runs in a lane is not called back, so a write may happen after its answer."""
    late = f"the answer took longer than {seconds} seconds (ISCC_SEARCH_REQUEST_SECONDS)"
    if method in ("GET", "HEAD"):
        return Overtime(f"{late}: send the request again later")
    return Overtime(f"{late}: a write may still happen; look whether it did, or send it again: adding the same assets again is harmless")
