"""A span for each request, sent by OTLP over HTTP. Imported only with `ISCC_SEARCH_OTEL=yes`.

Where to, how many, under which name: OpenTelemetry's own variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_TRACES_SAMPLER`,
`OTEL_SERVICE_NAME` …), which its library reads. A caller's `traceparent` is followed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

NAME = "tidepool"
FOLLOWED = {b"traceparent": "traceparent", b"tracestate": "tracestate"}


class Spans:
    """A `service.reporting.Reporter`. Spans wait in memory, a bounded number of them, and are sent by a thread."""

    def __init__(self, version: str) -> None:
        own = Resource({"service.name": NAME, "service.version": version})
        self._provider = TracerProvider(resource=own.merge(OTELResourceDetector().detect()), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer(NAME, version)
        self._propagator = TraceContextTextMapPropagator()

    def note(self, request_id: str, method: str, route: str, status: int, seconds: float, headers: Iterable[tuple[bytes, bytes]]) -> None:
        ended_ns = time.time_ns()
        carried = {FOLLOWED[name]: value.decode("latin-1") for name, value in headers if name in FOLLOWED}
        span = self._tracer.start_span(
            f"{method} {route}",
            self._propagator.extract(carried) if carried else None,
            SpanKind.SERVER,
            {
                "http.request.method": method,
                "http.route": route,
                "http.response.status_code": status,
                "tidepool.request_id": request_id,
            },
            start_time=ended_ns - int(seconds * 1e9),
        )
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(ended_ns)

    def close(self, timeout_s: float) -> None:
        self._provider.force_flush(int(timeout_s * 1000))
