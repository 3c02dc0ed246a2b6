"""Data larger than memory: simprints are searched right by a process that may hold little of them."""

from __future__ import annotations

import random
import re
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from tests.system.client import Client, Entry
from tests.system.entries import iscc_id
from tests.system.server import Server

INDEX = "works"
PER_ASSET = 50
WIDTH = 16
DATA_LIMIT = 512 << 20
BODY_SHARE, CODE_BYTES = 1.5, 8
SAMPLES = 200


def anonymous_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Anonymous: +(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) << 10


def body(number: int) -> bytes:
    """The simprint of that number: the same whenever it is asked for."""
    return random.Random(number).randbytes(WIDTH)


def text_of(simprint: bytes) -> str:
    return urlsafe_b64encode(simprint).decode().rstrip("=")


def entry(number: int) -> Entry:
    first = number * PER_ASSET
    chunks = [{"simprint": text_of(body(first + place)), "offset": place * 100, "size": 100} for place in range(PER_ASSET)]
    return {"iscc_id": iscc_id(number), "simprints": {"CONTENT_TEXT_V0": chunks}}


@pytest.mark.parametrize("simprints", [500_000, pytest.param(5_000_000, marks=pytest.mark.soak)])
def test_little_memory_holds_many_simprints(tmp_path: Path, simprints: int) -> None:
    """Under a limit on anonymous memory, near-duplicates are found with their places, and memory grows by no more than the promise."""
    assets = simprints // PER_ASSET
    limited = Server(tmp_path / "data").given({}, ["prlimit", f"--data={DATA_LIMIT}"])
    with limited as server, Client(server.port) as client:
        client.create_index(INDEX)
        before = 0
        for start in range(0, assets, 100):
            if start == assets // 2:  # by then the buffers of requests and commits are as large as they get
                before = anonymous_bytes(server.process.pid)
            assert client.add(INDEX, [entry(number) for number in range(start, start + 100)]).status == 201
        rng = random.Random(1)
        for _ in range(SAMPLES):
            number = rng.randrange(simprints)
            asked = bytearray(body(number))
            asked[rng.randrange(WIDTH)] ^= 0b111
            answer = client.search(INDEX, {"simprints": {"CONTENT_TEXT_V0": [text_of(bytes(asked))]}})
            match = answer.body["chunk_matches"][0]  # now and then another simprint is as near as that by chance
            assert match["iscc_id"] == iscc_id(number // PER_ASSET)
            (chunk,) = match["types"]["CONTENT_TEXT_V0"]["chunks"]
            assert (chunk["match"], chunk["offset"], chunk["score"]) == (text_of(body(number)), number % PER_ASSET * 100, 1 - 3 / 128)
        grown = anonymous_bytes(server.process.pid) - before
        assert grown <= (BODY_SHARE * WIDTH + CODE_BYTES) * simprints / 2, f"{grown >> 20} MB"
