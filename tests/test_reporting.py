"""OpenTelemetry and Sentry: what is told, what never is, and that nothing of them is there when nobody asked."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.collectors import Collector, collector
from tests.project import ROOT
from tests.system.estate import INDEX, new_entry
from tests.system.server import Server
from tests.test_settings import read, refused

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
LIBRARIES = re.compile(r"\b(opentelemetry\.(sdk|exporter|proto)|sentry_sdk|google\.protobuf)\b")
"""Litestar itself looks for the names of OpenTelemetry, which are a few constants."""
OTEL = {"OTEL": "yes"}


@pytest.fixture
def receiver() -> Iterator[Collector]:
    with collector() as found:
        yield found


def attributes(span: Span) -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in span.attributes}


def test_a_span_for_each_request(tmp_path: Path, receiver: Collector) -> None:
    """Method, route, status and id; the caller's trace is followed; no path, header, query or body. A stop sends what waits."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "mine", "OTEL_BSP_SCHEDULE_DELAY": "60000"}
    with Server(tmp_path / "data", **OTEL).given(environment) as server, httpx.Client(base_url=server.url) as http:
        http.post("/indexes", json={"name": INDEX})
        stored = http.post(
            f"/indexes/{INDEX}/assets", json=[{**new_entry(1), "metadata": {"name": "hush-1"}}], headers={"cookie": "hush-2"}
        )
        assert stored.status_code == 201
        followed = {"traceparent": f"00-{TRACE}-{PARENT}-01", "x-request-id": "caller-1"}
        assert http.get("/indexes/hush-3?limit=hush-4", headers=followed).status_code == 404
        assert server.stop() == 0
    spans = {span.name: span for span in receiver.spans()}
    assert {"POST /indexes", "POST /indexes/{name}/assets", "GET /indexes/{name}"} <= spans.keys()
    found = spans["GET /indexes/{name}"]
    assert attributes(found) == {
        "http.request.method": "GET",
        "http.route": "/indexes/{name}",
        "http.response.status_code": 404,
        "tidepool.request_id": "caller-1",
    }
    assert (found.trace_id.hex(), found.parent_span_id.hex(), found.kind) == (TRACE, PARENT, Span.SPAN_KIND_SERVER)
    assert 0 < found.end_time_unix_nano - found.start_time_unix_nano < 10e9
    assert abs(time.time_ns() - found.end_time_unix_nano) < 60e9
    sent = b"".join(body for _, body in receiver.bodies)
    assert b"mine" in sent
    assert b"hush" not in sent


@pytest.mark.parametrize(("kind", "drain"), [("otel", 30), ("sentry", 30), ("otel", 2)])
def test_a_receiver_that_hangs_costs_a_second(tmp_path: Path, receiver: Collector, kind: str, drain: int) -> None:
    """Requests do not notice it, and the stop ends in order."""
    receiver.hangs.set()
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    settings = OTEL if kind == "otel" else {"SENTRY_DSN": receiver.dsn, "SENTRY_TRACES_SAMPLE_RATE": "1"}
    with Server(tmp_path / "data", DRAIN_SECONDS=drain, **settings).given(environment) as server:
        assert httpx.post(f"{server.url}/indexes", json={"name": INDEX}).status_code == 201
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
        assert '"phase":"reports"' in server.log()


def test_times_of_requests_reach_sentry_when_asked(tmp_path: Path, receiver: Collector) -> None:
    """By route, with status and request id, and nothing that was sent."""
    with Server(tmp_path / "data", SENTRY_DSN=receiver.dsn, SENTRY_TRACES_SAMPLE_RATE="1") as server:
        headers = {"x-request-id": "caller-1", "x-api-key": "hush-1"}
        assert httpx.get(f"{server.url}/indexes/hush-2?limit=hush-3", headers=headers).status_code == 404
        assert server.stop() == 0
    (found,) = [item for item in receiver.items("transaction") if item["transaction"] == "GET /indexes/{name}"]
    assert found["tags"]["request_id"] == "caller-1"
    assert found["contexts"]["trace"]["data"]["http.response.status_code"] == 404
    assert receiver.items("event") == []
    assert not [body for _, body in receiver.bodies if b"hush" in body]


def test_a_failed_start_reaches_sentry(tmp_path: Path, receiver: Collector) -> None:
    """The process ends; what it said last is sent before."""
    with Server(tmp_path / "data") as server:
        assert server.stop() == 0
    (tmp_path / "data" / "live" / "data.mdb").write_bytes(b"")
    server = Server(tmp_path / "data", SNAPSHOT_URL="none", SENTRY_DSN=receiver.dsn)
    server.start()
    try:
        assert server.wait_exit() == 78
    finally:
        server.end()
    (found,) = receiver.items("event")
    assert found["logentry"]["message"] == "state"
    assert found["extra"]["members"]["state"] == "failed"
    assert "data.mdb is empty" in found["extra"]["members"]["reason"]


# The word comes as an argument: from Python 3.13 on, the lines of such a program are told as those of a file are.
DEFECT = """
import asyncio, httpx, sys
from pathlib import Path
from service.app import create_app
from service.logs import event, logger, set_up
from service.sentry import Sentry
from service.telemetry import Metrics
from tests.api.inside import settings
from tests.api.stub import NoAccess

class Defect(NoAccess):
    def read(self, job):
        local = f"{word}-local"
        raise KeyError(f"{word}-words")

async def ask():
    app = create_app(Defect(), Metrics(), settings(Path("/nowhere")))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inside") as http:
        answer = await http.get(f"/indexes/{word}name?limit={word}-query", headers={"cookie": f"{word}-cookie", "x-request-id": "id-1"})
        assert answer.status_code == 500

url, word = sys.argv[1:]
set_up("info")
reporter = Sentry(url, 0, "1")
asyncio.run(ask())
logger.error("the disk of %s is slow", "one", extra={"members": {"seconds": 3}})
reporter.close(10)
"""


def test_an_unexpected_exception_reaches_sentry_without_data(receiver: Collector) -> None:
    """Its kind and its place, and the request id to look it up; neither its words nor local variables nor what was sent. What does not
    belong to a request is told as the log has it."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DEFECT, receiver.dsn, "hush"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hush-words" in done.stderr, "the log has the words"
    first, second = receiver.items("event")
    value = first["exception"]["values"][-1]
    assert (value["type"], value["value"]) == ("KeyError", "its words are in the log")
    frames = value["stacktrace"]["frames"]
    assert [frame["function"] for frame in frames][-2:] == ["get_index", "read"]
    assert not [frame for frame in frames if "vars" in frame]
    assert first["tags"]["request_id"] == "id-1"
    assert (second["logentry"]["formatted"], second["extra"]["members"]) == ("the disk of one is slow", {"seconds": 3})
    assert b"hush" not in b"".join(body for _, body in receiver.bodies)


@pytest.mark.parametrize("on", [False, True])
def test_nothing_of_them_is_imported_when_off(tmp_path: Path, receiver: Collector, on: bool) -> None:
    """The interpreter's own list of imports, of a service that started, answered and stopped."""
    settings = {**OTEL, "SENTRY_DSN": receiver.dsn} if on else {}
    environment = {"PYTHONPROFILEIMPORTTIME": "1", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    with Server(tmp_path / "data", **settings).given(environment) as server:
        assert httpx.get(f"{server.url}/indexes").status_code == 200
        assert server.stop() == 0
    imported = [line for line in server.log().splitlines() if line.startswith("import time:")]
    assert len(imported) > 100
    assert bool([line for line in imported if LIBRARIES.search(line)]) == on


@pytest.mark.parametrize(
    ("name", "value", "package", "extra"),
    [
        ("OTEL", "yes", "opentelemetry.exporter.otlp.proto.http", "otel"),
        ("SENTRY_DSN", "https://key@sentry.example.org/1", "sentry_sdk", "sentry"),
    ],
)
def test_a_missing_extra_names_the_command(monkeypatch: pytest.MonkeyPatch, name: str, value: str, package: str, extra: str) -> None:
    """A setting that needs a package which is not there is a problem of the start; the value of a DSN is not repeated."""
    monkeypatch.setitem(sys.modules, package, None)
    problem = refused(**{name: value})
    shown = "(hidden)" if name == "SENTRY_DSN" else repr(value)
    way_out = f"needs packages that are not installed: run pip install 'tidepool[{extra}]', or leave the variable out"
    assert problem == f"ISCC_SEARCH_{name}={shown}: {way_out}"


@pytest.mark.parametrize("dsn", ["key", "https://sentry.example.org/1", "https://key@sentry.example.org", "ftp://key@sentry.example.org/1"])
def test_what_is_no_dsn_is_refused(dsn: str) -> None:
    """With what one looks like, and without repeating it."""
    assert refused(SENTRY_DSN=dsn) == (
        "ISCC_SEARCH_SENTRY_DSN=(hidden): expected the DSN of a project, such as https://key@sentry.example.org/1"
    )


def test_off_is_the_default() -> None:
    """Nobody is told anything unless a setting says so."""
    settings = read()
    assert (settings.otel, settings.sentry_dsn, settings.sentry_traces_sample_rate) == (False, "", 0.0)
    assert logging.getLogger("tidepool").handlers == []
