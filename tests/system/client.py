"""A client as thin as one can be, so that a test measures the server: one connection, JSON in and out, no retry."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.system.server import HOST

TIMEOUT_SECONDS = 60.0
Entry = dict[str, Any]


class Refused(Exception):
    """Nobody accepted the connection: the request never left."""


class Lost(Exception):
    """No answer came: the request was carried out wholly or not at all, and nobody knows which."""


class Answer(NamedTuple):
    """Status, decoded body (None when there is none) and headers in lower case."""

    status: int
    body: Any
    headers: dict[str, str]


class Client:
    """One keep-alive connection, opened when it is needed. Used by one thread. `headers` go with every request."""

    def __init__(self, port: int, timeout_s: float = TIMEOUT_SECONDS, headers: Mapping[str, str] | None = None) -> None:
        self._headers = dict(headers or {})
        self._connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    def send(self, method: str, path: str, body: object = None) -> Answer:
        """One request and its answer. Raises Refused or Lost."""
        payload = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        self._connect()
        try:
            self._connection.request(method, path, payload, {**self._headers, **({"content-type": "application/json"} if payload else {})})
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Lost(f"{method} {path}: {error!r}") from error
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return Answer(answer.status, json.loads(text) if text else None, headers)

    def create_index(self, name: str) -> Answer:
        return self.send("POST", "/indexes", {"name": name})

    def delete_index(self, name: str) -> Answer:
        return self.send("DELETE", f"/indexes/{name}")

    def index(self, name: str) -> Answer:
        return self.send("GET", f"/indexes/{name}")

    def add(self, index: str, entries: list[Entry]) -> Answer:
        return self.send("POST", f"/indexes/{index}/assets", entries)

    def get(self, index: str, iscc_id: str) -> Answer:
        return self.send("GET", f"/indexes/{index}/assets/{iscc_id}")

    def delete(self, index: str, iscc_id: str) -> Answer:
        return self.send("DELETE", f"/indexes/{index}/assets/{iscc_id}")

    def search(self, index: str, query: Entry, limit: int = 100) -> Answer:
        return self.send("POST", f"/indexes/{index}/search?limit={limit}", query)

    def _connect(self) -> None:
        if self._connection.sock is not None:
            return
        try:
            self._connection.connect()
        except (ConnectionRefusedError, ConnectionResetError, TimeoutError) as error:
            self._connection.close()
            raise Refused(str(error)) from error


def metrics(port: int) -> dict[str, float]:
    """The samples of `/metrics` by name with labels."""
    connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    finally:
        connection.close()
    samples = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}
