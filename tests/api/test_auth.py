"""The API key."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.system.server import HOST, Server

SECRET = "correct horse battery staple"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory: Path = tmp_path_factory.mktemp("auth") / "data"
    with Server(directory, API_SECRET=SECRET) as running:
        yield running


@pytest.mark.parametrize("key", [None, "", "wrong", SECRET + "x", SECRET[:-1], SECRET.upper()])
def test_a_wrong_key_is_refused_everywhere(guarded: Server, key: str | None) -> None:
    """401 with one word, on every data route, before the body is looked at."""
    headers = {} if key is None else {"X-API-Key": key}
    for method, path in (
        ("GET", "/indexes"),
        ("POST", "/indexes"),
        ("DELETE", "/indexes/a"),
        ("POST", "/indexes/a/assets"),
        ("GET", "/indexes/a/search"),
        ("GET", "/snapshots"),
        ("POST", "/snapshots"),
        ("GET", "/snapshots/1"),
        ("GET", "/snapshots/status"),
        ("POST", "/snapshots/drill"),
    ):
        answer = httpx.request(method, guarded.url + path, headers=headers, content=b"{bad json" if method == "POST" else None)
        assert (answer.status_code, answer.json()) == (401, {"detail": "Unauthorized"})


def test_the_right_key_opens(guarded: Server) -> None:
    """The name of the header is not case-sensitive."""
    for name in ("X-API-Key", "x-api-key"):
        assert httpx.get(f"{guarded.url}/indexes", headers={name: SECRET}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/status", "/docs", "/openapi/openapi.json", "/metrics"])
def test_what_needs_no_key(guarded: Server, path: str) -> None:
    """Probes, monitoring and documentation are open."""
    assert httpx.get(guarded.url + path).status_code == 200


def test_bytes_that_are_no_ascii_are_refused_like_any_wrong_key(guarded: Server) -> None:
    """401, not a defect, and the connection goes on."""
    with socket.create_connection((HOST, guarded.port), timeout=10) as connection:
        for _ in range(2):
            connection.sendall(b"GET /indexes HTTP/1.1\r\nhost: x\r\nx-api-key: \xc3\xa4\xff\r\n\r\n")
            answer = b""
            while b"Unauthorized" not in answer:
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 401")


def test_the_key_is_never_written_down(guarded: Server) -> None:
    """Neither the log nor an answer has the secret or a key that was tried."""
    httpx.get(f"{guarded.url}/indexes", headers={"X-API-Key": "tried-and-wrong"})
    httpx.get(f"{guarded.url}/indexes", headers={"X-API-Key": SECRET})
    shown = guarded.log() + httpx.get(f"{guarded.url}/metrics").text + httpx.get(f"{guarded.url}/status").text
    assert SECRET not in shown
    assert "tried-and-wrong" not in shown
