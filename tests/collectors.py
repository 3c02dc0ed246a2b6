"""Who receives what the service reports: OTLP over HTTP and Sentry's envelopes, on loopback, everything kept as it came."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """Lives as long as `collector` is open. `bodies` are unpacked, by the path that they were sent to."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.bodies: list[tuple[str, bytes]] = []
        self.hangs = threading.Event()
        self.released = threading.Event()

    @property
    def dsn(self) -> str:
        return self.url.replace("http://", "http://key@") + "/1"

    def spans(self) -> list[Span]:
        found = [ExportTraceServiceRequest.FromString(body) for path, body in self.bodies if path == "/v1/traces"]
        return [span for each in found for resource in each.resource_spans for scope in resource.scope_spans for span in scope.spans]

    def items(self, kind: str) -> list[dict[str, Any]]:
        """Of Sentry's envelopes: `event` or `transaction`."""
        return [item for path, body in self.bodies if path == "/api/1/envelope/" for item in _items(body, kind)]


def _items(envelope: bytes, kind: str) -> Iterator[dict[str, Any]]:
    lines = envelope.split(b"\n")[1:]
    for header, payload in zip(lines[::2], lines[1::2], strict=False):
        if header and json.loads(header)["type"] == kind:
            yield json.loads(payload)


@contextmanager
def collector() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if found.hangs.is_set():
                found.released.wait(60)
            found.bodies.append((self.path, gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Collector(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield found
    finally:
        found.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
