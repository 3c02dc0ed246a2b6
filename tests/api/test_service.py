"""Routes for probes and people, and how paths and methods that do not exist are answered."""

from __future__ import annotations

import httpx
import pytest

from service import __version__


def test_probes(http: httpx.Client) -> None:
    """A service that is ready says so, in the words that clients know."""
    assert http.get("/healthz").json() == {"status": "ok"}
    assert http.get("/readyz").json() == {"status": "ready"}
    status = http.get("/status").json()
    assert status.pop("snapshots")["kind"] == "directory"
    assert status == {"version": __version__, "mode": "normal", "network": None, "state": "ready", "reason": ""}


@pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json"])
def test_root_answers_json_to_everybody(http: httpx.Client, accept: str) -> None:
    """The name of the service, with the members that clients know."""
    answer = http.get("/", headers={"accept": accept})
    assert answer.headers["vary"] == "Accept"
    assert answer.json() == {
        "title": "Tidepool",
        "description": "Similarity search for ISCC codes",
        "version": __version__,
        "docs": "/docs",
        "mode": "normal",
        "network": None,
    }


def test_playground_leads_home(http: httpx.Client) -> None:
    """301 to the root with an empty body."""
    answer = http.get("/playground")
    assert (answer.status_code, answer.headers["location"], answer.content) == (301, "/", b"")


@pytest.mark.parametrize(
    "path", ["/static/css/style.css", "/static/", "/nope", "/openapi.json", "/redoc", "/openapi/nope.yaml", "/openapi/..%2Fx"]
)
def test_unknown_paths(http: httpx.Client, path: str) -> None:
    """404 in the shape of every error."""
    answer = http.get(path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("HEAD", "/indexes", "GET, POST"),
        ("HEAD", "/healthz", "GET"),
        ("PUT", "/indexes/a", "DELETE, GET"),
        ("PATCH", "/indexes/a/assets/x", "DELETE, GET"),
        ("GET", "/indexes/a/assets", "POST"),
        ("OPTIONS", "/indexes", "GET, POST"),
        ("BREW", "/indexes/a/search", "GET, POST"),
    ],
)
def test_wrong_methods(http: httpx.Client, method: str, path: str, allow: str) -> None:
    """405 with the methods that there are."""
    answer = http.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allow)
    if method != "HEAD":
        assert answer.json() == {"detail": "Method Not Allowed"}


def test_a_trailing_slash_is_the_same_path(http: httpx.Client, index: str) -> None:
    """No redirect, which clients would not follow."""
    assert http.get(f"{index}/").json() == http.get(index).json()


def test_a_path_that_is_too_long(http: httpx.Client) -> None:
    """414 before anything remembers the path."""
    answer = http.get("/indexes/" + "a" * 2000)
    assert (answer.status_code, answer.json()) == (414, {"detail": "the path is longer than 1024 characters"})


def test_metrics_show_requests_lanes_engine_and_memory(http: httpx.Client, index: str) -> None:
    """Prometheus finds every kind of figure; routes are templates, never what a client wrote."""
    http.request("BREW", index)
    http.get("/nope/secret")
    answer = http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    for line in (
        'tidepool_requests_total{method="POST",route="/indexes",status="201"}',
        'tidepool_requests_total{method="OTHER",route="unmatched",status="405"}',
        'tidepool_request_seconds_bucket{le="0.0005",method="POST",route="/indexes"}',
        "tidepool_requests_in_flight 1.0",
        'tidepool_lane_depth{lane="write"} 0.0',
        "tidepool_commit_requests_sum",
        "tidepool_commit_seconds_count",
        "tidepool_ready 1.0",
        'tidepool_memory_bytes{kind="anonymous"}',
        "tidepool_engine_indexes",
        "tidepool_engine_graphs_built_total 0.0",
    ):
        assert line in answer.text, line
    assert "secret" not in answer.text
