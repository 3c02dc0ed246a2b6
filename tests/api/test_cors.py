"""Cross-origin requests, with every origin allowed and with a list."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.system.server import Server

PREFLIGHT = {"access-control-request-method": "POST"}
METHODS = "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("cors") / "data"
    with Server(directory, CORS_ORIGINS="https://a.example, https://b.example", API_SECRET="key") as running:
        yield running


def test_without_origin_nothing_is_added(http: httpx.Client) -> None:
    """Clients that are no pages see no header of this kind."""
    assert not [name for name in http.get("/healthz").headers if name.startswith("access-control")]


def test_every_origin_may_read(http: httpx.Client) -> None:
    """`*` for answers and for errors."""
    for path in ("/healthz", "/nope", "/indexes/absent"):
        answer = http.get(path, headers={"origin": "https://anywhere.example"})
        assert answer.headers["access-control-allow-origin"] == "*"


def test_a_preflight_is_answered(http: httpx.Client) -> None:
    """200 OK with the methods, the asked headers and how long to remember, for any path."""
    asked = {**PREFLIGHT, "access-control-request-headers": "x-api-key, content-type", "origin": "https://anywhere.example"}
    answer = http.options("/indexes/a/search", headers=asked)
    assert (answer.status_code, answer.text) == (200, "OK")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-methods"] == METHODS
    assert answer.headers["access-control-allow-headers"] == "x-api-key, content-type"
    assert answer.headers["access-control-max-age"] == "600"


def test_a_preflight_for_an_unknown_method(http: httpx.Client) -> None:
    """400 that says what is not allowed."""
    answer = http.options("/indexes", headers={"origin": "https://a.example", "access-control-request-method": "BREW"})
    assert (answer.status_code, answer.text) == (400, "Disallowed CORS method")


def test_options_without_preflight_headers(http: httpx.Client) -> None:
    """405, like any wrong method."""
    assert http.options("/indexes", headers={"origin": "https://a.example"}).status_code == 405


def test_a_listed_origin_is_echoed(listed: Server) -> None:
    """The origin itself, and a warning to caches; also on a refusal for want of a key."""
    for path, status in (("/healthz", 200), ("/indexes", 401)):
        answer = httpx.get(listed.url + path, headers={"origin": "https://b.example"})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == "https://b.example"
        assert answer.headers["vary"] == "Origin"


def test_a_foreign_origin_reads_nothing(listed: Server) -> None:
    """A simple request is answered without the header that a page needs, a preflight is refused."""
    simple = httpx.get(f"{listed.url}/healthz", headers={"origin": "https://evil.example"})
    assert simple.status_code == 200
    assert "access-control-allow-origin" not in simple.headers
    preflight = httpx.options(f"{listed.url}/indexes", headers={"origin": "https://evil.example", **PREFLIGHT})
    assert (preflight.status_code, preflight.text) == (400, "Disallowed CORS origin")
    assert "access-control-allow-origin" not in preflight.headers


def test_a_preflight_needs_no_key(listed: Server) -> None:
    """Browsers send none."""
    assert httpx.options(f"{listed.url}/indexes", headers={"origin": "https://a.example", **PREFLIGHT}).text == "OK"
