"""Reading a request body: bounded in bytes and in time, JSON only. Runs on the event loop; nothing is decoded here."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request

from service.api.errors import BadRequest, TooLarge, TooSlow, unprocessable

BODY_SECONDS_MAX = 60
"""As long as the reference client waits for an answer."""


async def read_body(request: Request[Any, Any, Any], limit_bytes: int, setting: str) -> bytes:
    """The body. Raises TooLarge before reading when its length is announced, else as soon as it is over the limit."""
    headers = {name: value for name, value in request.scope["headers"] if name in (b"content-type", b"content-length")}
    _check_type(headers.get(b"content-type", b""))
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced[:20]) > limit_bytes:
        raise _too_large(limit_bytes, setting)
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            return await _receive(request, limit_bytes, setting)
    except TimeoutError as error:
        raise TooSlow(f"the body did not arrive within {BODY_SECONDS_MAX} seconds: send smaller requests") from error


async def _receive(request: Request[Any, Any, Any], limit_bytes: int, setting: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client went away before the body was complete")
        if message["type"] != "http.request":
            raise AssertionError(message["type"])
        part = message["body"]
        size += len(part)
        if size > limit_bytes:
            raise _too_large(limit_bytes, setting)
        parts.append(part)
        more = message["more_body"]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_type(header: bytes) -> None:
    media_type = header.split(b";", 1)[0].strip().lower()
    if media_type != b"application/json" and not (media_type.startswith(b"application/") and media_type.endswith(b"+json")):
        shown = media_type.decode("latin-1") or "no content-type"
        raise unprocessable(["body"], f"expected a JSON body with content-type application/json, got {shown}", "content_type")


def _too_large(limit_bytes: int, setting: str) -> TooLarge:
    return TooLarge(f"the body is larger than {limit_bytes} bytes: send less in one request, or raise ISCC_SEARCH_{setting}")
