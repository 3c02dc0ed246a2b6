"""The process around the interface, as far as a test needs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.api.access import State
from service.engine.engine import Engine
from service.engine.requests import Answer, Request

T = TypeVar("T")


class NoAccess:
    """For tests that look at the application and send nothing."""

    state = State("opening", "", serves=False)
    snapshots = None

    def read(self, job: Callable[[Engine], T]) -> Awaitable[T]:
        raise AssertionError(job)

    def write(self, request: Request, size: int, *, remote: bool | None = None) -> Awaitable[Answer]:
        raise AssertionError(request, size, remote)

    def metrics(self) -> Awaitable[bytes]:
        raise AssertionError("metrics")
