"""Who is told of requests besides the log and the metrics: OpenTelemetry and Sentry, each when a setting asks for it.

Their packages are extras, and imported only then. Neither gets a body, a header's value, a query string, a path or a local variable:
requests are told by method, route template, status, time and request id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from service import __version__
from service.settings import Settings

Headers = Iterable[tuple[bytes, bytes]]


class Reporter(Protocol):
    """Lives as long as the process."""

    def note(self, request_id: str, method: str, route: str, status: int, seconds: float, headers: Headers) -> None:
        """A request that was answered a moment ago. On the event loop: never waits, never raises."""

    def close(self, timeout_s: float) -> None:
        """Sends what waits. May take longer than that: the caller does not wait for it."""


def reporters(settings: Settings) -> list[Reporter]:
    found: list[Reporter] = []
    if settings.otel:
        from service.otel import Spans

        found.append(Spans(__version__))
    if settings.sentry_dsn:
        from service.sentry import Sentry

        found.append(Sentry(settings.sentry_dsn, settings.sentry_traces_sample_rate, __version__))
    return found
