"""One server for the tests of the interface, and an index of its own for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import httpx
import pytest

from tests.system.server import Server

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with default limits, except those that would make a test slow to reach."""
    directory = tmp_path_factory.mktemp("api") / "data"
    with Server(
        directory, MAX_BODY_BYTES=1 << 20, MAX_QUERY_BYTES=1 << 16, MAX_ASSETS=50, MAX_SIMPRINTS=40, MAX_QUERY_SIMPRINTS=20
    ) as running:
        yield running


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    """Keeps its connections, as clients do: an answer that spoils the connection spoils the next test."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def index(http: httpx.Client) -> str:
    """The path of a new, empty index."""
    name = f"t{next(_NUMBERS)}"
    assert http.post("/indexes", json={"name": name}).status_code == 201
    return f"/indexes/{name}"
