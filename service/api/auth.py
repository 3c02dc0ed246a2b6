"""The API key: one shared secret with full rights, compared in constant time, checked before a body is read."""

from __future__ import annotations

import hmac
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Guard

from service.api.errors import Unauthorized


def key_guard(secret: str) -> Guard:
    """For the routes that need the key. Raises Unauthorized."""
    expected = secret.encode()

    def check(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        sent = next((value for name, value in connection.scope["headers"] if name == b"x-api-key"), b"")
        if not hmac.compare_digest(sent, expected):
            raise Unauthorized("Unauthorized")

    return check
