"""Bodies: what is no JSON, what is too large, what never ends."""

from __future__ import annotations

import contextlib
import json
import socket
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from tests.api.isccs import iscc_id, units
from tests.system.server import HOST, Server, wait_until

CUT_OFF = "JSON is malformed: it ends too early, or half of a surrogate pair is missing"
JSON = {"content-type": "application/json"}


def problem(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 422, (answer.status_code, answer.text)
    found: dict[str, object] = answer.json()["detail"][0]
    return found


@pytest.mark.parametrize("given", ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"])
def test_json_types_are_accepted(http: httpx.Client, index: str, given: str) -> None:
    """Any JSON type, with or without parameters."""
    assert http.post(f"{index}/assets", content=b"[]", headers={"content-type": given}).status_code == 201


@pytest.mark.parametrize("given", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", "multipart/form-data", ""])
def test_other_types_are_refused(http: httpx.Client, index: str, given: str) -> None:
    """422 that says what was expected and what came."""
    found = problem(http.post(f"{index}/assets", content=b"[]", headers={"content-type": given}))
    assert found["msg"] == f"expected a JSON body with content-type application/json, got {given or 'no content-type'}"


@pytest.mark.parametrize(
    ("body", "msg"),
    [
        (b"", CUT_OFF),
        (b"[{", CUT_OFF),
        (b"[1,]", "JSON is malformed: trailing comma in array (byte 3)"),
        (b'[{"iscc_id": tru}]', "JSON is malformed: invalid character (byte 14)"),
        (b'["\xff"]', "the body is not UTF-8: invalid start byte at byte 2"),
        (b'[{"x":"\xed\xa0\x80"}]', "the body is not UTF-8: invalid continuation byte at byte 7"),
        (b'[{"metadata":{"a":"\\ud800"}}]', CUT_OFF),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'[{"metadata":' + b'{"a":' * 20_000 + b"NaN", "the body is nested too deeply"),
        (b"[NaN", "JSON is malformed: Expecting ',' delimiter: line 1 column 5 (char 4)"),
        (b'[{"metadata":{"a":1e999}}]', "Number out of range"),
        (b"{}", "Expected `array`, got `object`"),
        (b"[1]", "Expected `object`, got `int`"),
        (b"null", "Expected `array`, got `null`"),
        (b"[] []", "JSON is malformed: trailing characters (byte 4)"),
        (b"\xef\xbb\xbf[]", "JSON is malformed: invalid character (byte 0)"),
    ],
)
def test_what_is_no_json_is_told(http: httpx.Client, index: str, body: bytes, msg: str) -> None:
    """422 with the reason, for every kind of broken text."""
    body = body.replace(b'"metadata"', f'"iscc_id":"{iscc_id(1)}","metadata"'.encode(), 1)
    assert problem(http.post(f"{index}/assets", content=body, headers=JSON))["msg"] == msg


def test_too_large_is_told_before_it_is_read(http: httpx.Client, server: Server, index: str) -> None:
    """413 that names limit and setting, as soon as the length is announced."""
    expected = '{"detail":"the body is larger than 1048576 bytes: send less in one request, or raise ISCC_SEARCH_MAX_BODY_BYTES"}'
    with socket.create_connection((HOST, server.port), timeout=10) as connection:
        head = f"POST {index}/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n\r\n"
        connection.sendall(head.encode())
        answer = b""
        while b"}" not in answer:
            answer += connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"connection: close" in answer
    assert answer.endswith(expected.encode())


def test_an_early_refusal_keeps_the_connection(server: Server, index: str) -> None:
    """A small body that nobody needed is read all the same, so that the next request on the connection is understood."""
    with contextlib.closing(HTTPConnection(HOST, server.port, timeout=10)) as connection:
        connection.connect()
        first = connection.sock
        for _ in range(3):
            connection.request("POST", f"{index}/search?limit=x", json.dumps({"units": units(1)}), JSON)
            answer = connection.getresponse()
            assert (answer.status, answer.read()[:10]) == (422, b'{"detail":')
            assert connection.sock is first


def test_waiting_bodies_are_bounded_together(tmp_path: Path) -> None:
    """While one body holds the room, another is refused with the setting; when it is done there is room again."""
    with Server(tmp_path / "data", READ_QUEUE_BYTES=1024) as small:
        httpx.post(f"{small.url}/indexes", json={"name": "a"})
        head = f"POST /indexes/a/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {1 << 20}\r\n\r\n"
        with socket.create_connection((HOST, small.port), timeout=10) as slow:
            slow.sendall(head.encode())
            wait_until(lambda: httpx.post(f"{small.url}/indexes/a/assets", json=[]).status_code == 503, 10, "the room to be taken")
            answer = httpx.post(f"{small.url}/indexes/a/assets", json=[])
            text = "65536 bytes of requests wait (ISCC_SEARCH_READ_QUEUE_BYTES): nothing was done, send the request again"
            assert (answer.json(), answer.headers["retry-after"]) == ({"detail": text}, "1")
        wait_until(lambda: httpx.post(f"{small.url}/indexes/a/assets", json=[]).status_code == 201, 10, "the room to be free")


def test_too_large_is_told_while_it_streams(http: httpx.Client, index: str) -> None:
    """A body without an announced length ends at the limit too."""
    answer = http.post(f"{index}/assets", content=iter([b" " * 65_536] * 20), headers=JSON)
    assert answer.status_code == 413
    assert "ISCC_SEARCH_MAX_BODY_BYTES" in answer.json()["detail"]


def test_queries_have_a_smaller_limit(http: httpx.Client, index: str) -> None:
    """Searches and new indexes need little."""
    for path in (f"{index}/search", "/indexes"):
        answer = http.post(path, content=b" " * 65_537, headers=JSON)
        assert answer.status_code == 413
        assert "ISCC_SEARCH_MAX_QUERY_BYTES" in answer.json()["detail"]


def test_the_largest_body_is_accepted(http: httpx.Client, index: str) -> None:
    """Exactly at the limit is not above it."""
    entry = f'[{{"iscc_id":"{iscc_id(1)}","metadata":{{"a":"'
    body = entry + "x" * ((1 << 20) - len(entry) - 4) + '"}}]'
    assert http.post(f"{index}/assets", content=body, headers=JSON).status_code == 201
    assert len(http.get(f"{index}/assets/{iscc_id(1)}").json()["metadata"]["a"]) > 1_000_000


def test_millions_of_small_elements_are_counted_not_built(http: httpx.Client, index: str) -> None:
    """A list that is far too long is refused by its length or its first element, whatever it is made of."""
    found = problem(http.post(f"{index}/assets", content=b"[" + b"0," * 520_000 + b"0]", headers=JSON))
    assert found["loc"] == ["body", 0]
    body = b"[" + b",".join([b'{"iscc_id":null}'] * 55_000) + b',{"iscc_id":null,"x":[' + b",".join([b"0"] * 40) + b"]}]"
    found = problem(http.post(f"{index}/assets", content=body, headers=JSON))
    assert found["msg"] == "55001 assets: at most 50 are allowed, the limit is ISCC_SEARCH_MAX_ASSETS"


def test_many_commas_inside_are_no_elements(http: httpx.Client, index: str) -> None:
    """Commas in texts and in nested lists do not count."""
    body = f'[{{"iscc_id":"{iscc_id(1)}","metadata":{{"a":[{"0," * 300_000}0]}}}},{{"iscc_id":"{iscc_id(2)}","x":"{"]," * 210_000}\\""}}]'
    assert http.post(f"{index}/assets", content=body, headers=JSON).status_code == 201


def test_unknown_members_and_nulls_are_fine(http: httpx.Client, index: str) -> None:
    """Clients may send more than is known here."""
    entry = {"iscc_id": iscc_id(1), "units": units(1), "iscc_code": None, "simprints": None, "metadata": None, "new": {"a": [1]}}
    assert http.post(f"{index}/assets", json=[entry]).status_code == 201
