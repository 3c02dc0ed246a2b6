"""No byte sequence is a defect: whatever is sent, the answer is JSON with a status that the documentation names, and never a 500."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.api.examples import CREATE, ENTRY_UNITS
from tests.api.isccs import code, iscc_id, simprint, units
from tests.system.server import Server

JSON = {"content-type": "application/json"}
MUTATIONS = 700
PIECES = (
    b"\xff", b"\x00", b"\xed\xa0\x80", b"\\ud800", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"1.0", b"null", b"true", b'"',
    b"[", b"]", b"{", b"}", b",", b":", b"\\", b"[" * 3000, b'{"a":' * 3000, b'""', b"18446744073709551616", b"\xf0\x9f\x98\x80",
    b"\xef\xbb\xbf", b" ",
)  # fmt: skip


def seeds() -> dict[str, list[bytes]]:
    """Valid bodies, by route."""
    chunks = {"T": [{"simprint": simprint(1), "offset": 0, "size": 4294967295}]}
    metadata = {"name": "ü", "n": [1, 2.5, None]}
    entry = {"iscc_id": iscc_id(1), "iscc_code": code(1), "units": units(1), "simprints": chunks, "metadata": metadata}
    queries = [{"units": units(1)}, {"iscc_code": code(1)}, {"iscc_id": iscc_id(1)}, {"simprints": {"T": [simprint(1)]}}]
    return {
        "/assets": [json.dumps([entry, {"iscc_id": iscc_id(2)}], ensure_ascii=False).encode()],
        "/search": [json.dumps(query).encode() for query in queries],
        "": [json.dumps({"name": "fuzz", "assets": 1, "size": 2, "sizes": {"lmdb": 3}}).encode()],
    }


def mutate(body: bytes, rng: random.Random) -> bytes:
    """One to four cuts, copies, flips or strange pieces."""
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(body) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            body = body[:place] + rng.choice(PIECES) + body[place:]
        elif kind == 1:
            body = body[:place] + body[place + rng.randint(1, 8) :]
        elif kind == 2:
            body = body[:place] + rng.randbytes(1) + body[place + 1 :]
        else:
            other = rng.randrange(len(body) + 1)
            body = body[: min(place, other)] + rng.choice(PIECES) + body[max(place, other) :]
    return body


@pytest.mark.parametrize("route", ["/assets", "/search", ""])
def test_mutated_bodies(http: httpx.Client, index: str, route: str) -> None:
    """Broken UTF-8, deep nesting, huge numbers, wrong types: an answer with `detail`, on a connection that goes on."""
    rng = random.Random(f"bodies {route}")
    valid = seeds()[route]
    statuses: set[int] = set()
    for _ in range(MUTATIONS):
        body = mutate(rng.choice(valid), rng)
        answer = http.post(index + route if route else "/indexes", content=body, headers=JSON)
        statuses.add(answer.status_code)
        assert answer.status_code in (200, 201, 400, 404, 409, 422), (answer.status_code, body)
        assert answer.is_success or answer.json()["detail"]
    assert {422} < statuses


def test_strange_paths_and_queries(http: httpx.Client, index: str) -> None:
    """Paths and query strings are as hostile as bodies."""
    rng = random.Random("paths")
    pieces = [
        *map(chr, range(33, 127)),
        "%00",
        "%ff",
        "%2F",
        "%C3%A4",
        "%",
        "..",
        "//",
        "ISCC:",
        "limit=",
        "&",
        "?",
        "=",
        "iscc_code=",
        "%zz",
    ]
    for _ in range(MUTATIONS):
        path = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 12))).replace("#", "").replace("\\", "")
        base = rng.choice([index + "/", index + "/assets/", index + "/search?", "/indexes/", "/openapi/", "/"])
        answer = http.request(rng.choice(["GET", "DELETE", "POST"]), httpx.URL(http.base_url.copy_with(raw_path=(base + path).encode())))
        assert answer.status_code in (200, 204, 301, 400, 404, 405, 422), (answer.status_code, base + path)


def test_schemathesis_finds_nothing(server: Server, http: httpx.Client, tmp_path: Path) -> None:
    """Requests generated from our own document, valid and invalid: no defect, no undocumented status, no answer that does not fit its type.

    One check is left out: a schema cannot say which of the strings that fit a pattern are valid ISCCs.
    """
    http.post("/indexes", json=CREATE)
    http.post(f"/indexes/{CREATE['name']}/assets", json=[ENTRY_UNITS])
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi/openapi.json",
        "--checks", "all", "--exclude-checks", "positive_data_acceptance", "--mode", "all", "--phases", "examples,coverage,fuzzing",
        "--max-examples", "30", "--max-time", "15", "--seed", "1", "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
