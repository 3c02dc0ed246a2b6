"""The header with which a client says when its write is to be answered."""

from __future__ import annotations

from typing import Any

from litestar import Request

from service.api.errors import BadRequest

HEADER = "Tidepool-Durability"
WORDS = {"local": False, "remote": True}
_NAME = HEADER.lower().encode()


def wants_remote(request: Request[Any, Any, Any]) -> bool | None:
    """Whether the bucket must have the write before the answer. None: as the settings say."""
    sent = next((value for name, value in request.scope["headers"] if name == _NAME), None)
    if sent is None:
        return None
    word = sent.decode("latin-1")
    if word not in WORDS:
        raise BadRequest(f"{HEADER}: expected {' or '.join(WORDS)}, or no such header for what ISCC_SEARCH_DURABILITY says")
    return WORDS[word]
