"""Answers as bytes: the smallest ASGI response that does what the handlers need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from litestar import Response
from litestar.types import Receive, Scope, Send

JSON = b"application/json"


class Reply:
    """A complete answer. Lives for one request."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.body = body
        self.headers = [*headers, (b"content-length", b"%d" % len(body))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 the ASGI signature
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})

    def as_response(self) -> Response[bytes]:
        """For exception handlers, which may only return Litestar's own kind."""
        headers = {name.decode(): value.decode() for name, value in self.headers}
        return Response(self.body, status_code=self.status, headers=headers, media_type=headers["content-type"])


def json_reply(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, body, [(b"content-type", JSON), *_encoded(headers)])


def typed_reply(status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, body, [(b"content-type", content_type.encode()), *_encoded(headers)])


def empty_reply(status: int, headers: Mapping[str, str] | None = None) -> Reply:
    return typed_reply(status, JSON.decode(), b"", headers)


def _encoded(headers: Mapping[str, str] | None) -> Iterable[tuple[bytes, bytes]]:
    return () if headers is None else ((name.encode(), value.encode()) for name, value in headers.items())
