"""Errors, and on request the times of requests, to Sentry. Imported only when `ISCC_SEARCH_SENTRY_DSN` is set.

What the log has at level error or above becomes an event. No local variables, no bodies, no headers; the words of an exception stay in the
log, because they may quote what a client sent: the event has its kind, its place in the code, and the request id to find it by.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import sentry_sdk
from sentry_sdk.integrations.logging import LoggingIntegration

from service.logs import REQUEST_ID

SEE_LOG = "its words are in the log"


class Sentry:
    """A `service.reporting.Reporter`. Events wait in memory, a bounded number of them, and are sent by a thread."""

    def __init__(self, dsn: str, traces_sample_rate: float, version: str) -> None:
        self._traces = traces_sample_rate > 0
        sentry_sdk.init(
            dsn=dsn,
            release=f"tidepool@{version}",
            traces_sample_rate=traces_sample_rate if self._traces else None,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[LoggingIntegration(level=None, event_level=logging.ERROR)],
            include_local_variables=False,
            max_request_body_size="never",
            send_default_pii=False,
            max_breadcrumbs=0,
            before_send=_without_words,
        )

    def note(self, request_id: str, method: str, route: str, status: int, seconds: float, headers: Iterable[tuple[bytes, bytes]]) -> None:  # noqa: ARG002 - a caller's trace is not followed
        if not self._traces:
            return
        ended = datetime.now(UTC)
        transaction = sentry_sdk.start_transaction(
            op="http.server", name=f"{method} {route}", source="route", start_timestamp=ended - timedelta(seconds=seconds)
        )
        transaction.set_http_status(status)
        transaction.set_tag("request_id", request_id)
        transaction.finish(end_timestamp=ended)

    def close(self, timeout_s: float) -> None:
        sentry_sdk.flush(timeout_s)


def _without_words(event: Any, _: dict[str, Any]) -> Any:
    """Called in the context of whoever logged it."""
    for value in event.get("exception", {}).get("values", ()):
        value["value"] = SEE_LOG
    request_id = REQUEST_ID.get()
    if request_id:
        event.setdefault("tags", {})["request_id"] = request_id
        event.pop("extra", None)
        entry = event.get("logentry", {})
        event["logentry"] = {"message": entry.get("message", "")}
    return event
