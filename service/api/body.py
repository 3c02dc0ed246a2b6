"""Request bodies on their way to the read lane: JSON only, bounded in bytes and in time, and bounded all together.

Runs on the event loop; nothing is decoded here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import msgspec
from litestar import Request

from service.api.access import Access
from service.api.errors import BadRequest, TooLarge, TooSlow, unprocessable
from service.engine.engine import Engine
from service.engine.errors import Busy

T = TypeVar("T")

BODY_SECONDS_MAX = 60
"""As long as the reference client waits for an answer."""


FIRST_BYTES = 1 << 16


class Bound(msgspec.Struct, frozen=True):
    """Largest body of a route, and the setting that says so."""

    size: int
    setting: str


class Bodies:
    """All bodies that are being received or wait to be decoded. Lives as long as the application; event loop only."""

    def __init__(self, access: Access, bytes_max: int) -> None:
        self._access = access
        self._bytes_max = bytes_max
        self._held = 0

    async def read(self, request: Request[Any, Any, Any], bound: Bound, job: Callable[[bytes, Engine], T]) -> T:
        """Receives the body and has the read lane run the job with it. Raises TooLarge, TooSlow, Busy, or what the job raises."""
        announced = _check_headers(request, bound)
        part = _Part(self, announced)
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                body = await _receive(request, bound, part)
            return await self._access.read(partial(job, body))
        except TimeoutError as error:
            raise TooSlow(f"the body did not arrive within {BODY_SECONDS_MAX} seconds: send smaller requests") from error
        finally:
            self._held -= part.size

    def hold(self, size: int, own: int) -> None:
        """Makes room for a body that holds `own` already. One body alone always has it."""
        if self._held > own and self._held + size > self._bytes_max:
            raise Busy(f"{self._held} bytes of requests wait (ISCC_SEARCH_READ_QUEUE_BYTES): nothing was done, send the request again")
        self._held += size


class _Part:
    """What one body holds: what has come so far, and at first a little of what is announced. Not all of it: a few clients that announce
    much and send nothing would leave no room for the others."""

    def __init__(self, bodies: Bodies, announced: int) -> None:
        self._bodies = bodies
        self.size = 0
        self.grow(min(announced, FIRST_BYTES))

    def grow(self, size: int) -> None:
        if size > self.size:
            self._bodies.hold(size - self.size, self.size)
            self.size = size


async def _receive(request: Request[Any, Any, Any], bound: Bound, part: _Part) -> bytes:
    pieces: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client went away before the body was complete")
        if message["type"] != "http.request":
            raise AssertionError(message["type"])
        size += len(message["body"])
        if size > bound.size:
            raise _too_large(bound)
        part.grow(size)
        pieces.append(message["body"])
        more = message["more_body"]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _check_headers(request: Request[Any, Any, Any], bound: Bound) -> int:
    """The announced size, 0 when there is none."""
    headers = {name: value for name, value in request.scope["headers"] if name in (b"content-type", b"content-length")}
    _check_type(headers.get(b"content-type", b""))
    length = headers.get(b"content-length", b"0")
    announced = int(length[:20]) if length.isdigit() else 0
    if announced > bound.size:
        raise _too_large(bound)
    return announced


def _check_type(header: bytes) -> None:
    media_type = header.split(b";", 1)[0].strip().lower()
    if media_type != b"application/json" and not (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        shown = media_type.decode("latin-1") or "no content-type"
        raise unprocessable(["body"], f"expected a JSON body with content-type application/json, got {shown}", "content_type")


def _too_large(bound: Bound) -> TooLarge:
    return TooLarge(f"the body is larger than {bound.size} bytes: send less in one request, or raise ISCC_SEARCH_{bound.setting}")
