"""What the process counts, for whoever counts: `service.telemetry` does, or nobody when metrics are switched off."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Meter(Protocol):
    """Any thread may count."""

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None: ...

    def count_commit(self, requests: int, seconds: float) -> None: ...

    def count_event(self, event: str) -> None: ...

    def count_bucket(self, operation: str, result: str, seconds: float) -> None: ...

    def count_rate_limit_failure(self) -> None:
        """A search passed uncounted, because the store of the rate limit was lost."""

    def show_requests(self, in_flight: Callable[[], int], most: int) -> None:
        """How many requests are being answered, and how many may be."""

    def watch(
        self,
        lanes: Callable[[], Mapping[str, int]],
        state: Callable[[], str],
        engine: Callable[[], Mapping[str, int]],
        snapshots: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Values that are read when somebody asks for them."""

    def watch_background(self, queue: Callable[[], Mapping[str, int]], paused: Callable[[], Mapping[str, bool]]) -> None:
        """Pieces of background work that wait, by job; and whether it is paused, by what is short."""

    def text(self) -> bytes:
        """For Prometheus."""


class NoMeter:
    """Counts nothing and allocates nothing."""

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None: ...

    def count_commit(self, requests: int, seconds: float) -> None: ...

    def count_event(self, event: str) -> None: ...

    def count_bucket(self, operation: str, result: str, seconds: float) -> None: ...

    def count_rate_limit_failure(self) -> None: ...

    def show_requests(self, in_flight: Callable[[], int], most: int) -> None: ...

    def watch(
        self,
        lanes: Callable[[], Mapping[str, int]],
        state: Callable[[], str],
        engine: Callable[[], Mapping[str, int]],
        snapshots: Callable[[], Mapping[str, Any]],
    ) -> None: ...

    def watch_background(self, queue: Callable[[], Mapping[str, int]], paused: Callable[[], Mapping[str, bool]]) -> None: ...

    def text(self) -> bytes:
        return b""


def make(*, switched_on: bool) -> Meter:
    """Metrics, imported only when they are wanted."""
    if not switched_on:
        return NoMeter()
    from service.telemetry import Metrics

    return Metrics()
