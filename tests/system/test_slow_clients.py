"""Clients that send or read slowly, or not at all, cost the others nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.system.client import Client, metrics
from tests.system.entries import Entries, iscc_id
from tests.system.server import HOST, Server, wait_until

pytestmark = pytest.mark.timing

STUCK = 200
BODY = 32 << 20
ANSWER_S = 5.0
INDEX = "works"


@contextmanager
def connections(port: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """STUCK connections that send this, and then nothing."""
    with ExitStack() as stack:
        opened = [stack.enter_context(socket.create_connection((HOST, port), timeout=30)) for _ in range(STUCK)]
        for connection in opened:
            connection.sendall(sent)
        yield opened


@contextmanager
def filled(directory: Path, **settings: object) -> Iterator[Server]:
    with Server(directory, **settings) as server:
        with Client(server.port) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, [Entries(1).entry(iscc_id(1))]).status == 201
        yield server


def check_others(server: Server) -> None:
    """Reads, searches and writes of others, each on a new connection, are answered as if nothing was wrong."""
    source = Entries(1)
    for number in range(5):
        with Client(server.port, timeout_s=ANSWER_S) as client:
            assert client.add(INDEX, [source.entry(iscc_id(100 + number))]).status == 201
            assert client.search(INDEX, source.query()).status == 200
            assert client.get(INDEX, iscc_id(1)).status == 200


def test_headers_that_never_end(tmp_path: Path) -> None:
    """200 of them hold nobody up, and each is closed after a while."""
    with filled(tmp_path / "data") as server, connections(server.port, b"GET /indexes HTTP/1.1\r\nhost: x\r\nx-slow: ") as stuck:
        check_others(server)
        for connection in stuck:  # the server gives up on each: an answer or the end, not silence
            connection.settimeout(30)
            while connection.recv(4096):
                pass


def test_bodies_that_trickle(tmp_path: Path) -> None:
    """200 that announce the largest body and send two bytes hold neither the room for bodies nor the places for requests."""
    head = f"POST /indexes/{INDEX}/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {BODY}\r\n\r\n["
    with filled(tmp_path / "data") as server, connections(server.port, head.encode()) as stuck:
        wait_until(lambda: metrics(server.port)["tidepool_requests_in_flight"] > STUCK, 30, "the bodies to begin")
        check_others(server)
        for connection in stuck:
            connection.sendall(b" ")
        check_others(server)


def test_more_bodies_than_places(tmp_path: Path) -> None:
    """They fill the cap: others get a quick 503 that names it, and probes and metrics are answered."""
    head = f"POST /indexes/{INDEX}/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {BODY}\r\n\r\n["
    with filled(tmp_path / "data", MAX_REQUESTS=STUCK) as server:
        with connections(server.port, head.encode()):
            wait_until(lambda: metrics(server.port)["tidepool_requests_in_flight"] > STUCK, 30, "the bodies to begin")
            with Client(server.port, timeout_s=ANSWER_S) as client:
                refused = client.send("GET", "/indexes")
                assert (refused.status, refused.headers["retry-after"]) == (503, "1")
                assert "ISCC_SEARCH_MAX_REQUESTS" in refused.body["detail"]
                assert [client.send("GET", path).status for path in ("/healthz", "/readyz")] == [200, 200]
        wait_until(lambda: metrics(server.port)["tidepool_requests_in_flight"] <= 1, 30, "the places to be free")
        check_others(server)


def test_answers_that_are_not_read(tmp_path: Path) -> None:
    """200 clients that ask for a large answer and read nothing of it hold nobody up, and the process does not keep their requests."""
    ask = b"GET /docs HTTP/1.1\r\nhost: x\r\n\r\n" * 20
    with filled(tmp_path / "data") as server, connections(server.port, ask):
        check_others(server)
        wait_until(lambda: metrics(server.port)["tidepool_requests_in_flight"] <= 1, 30, "the requests to be answered")
        check_others(server)
