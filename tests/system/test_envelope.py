"""Small machines: the service starts on an empty disk, fills it from the bucket and answers right under a limit on its own memory.

The limit is RLIMIT_DATA: what the process takes for itself, whether it touches it or not. Pages of mapped files do not count; the system
takes them back when it needs the room.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

from tests.corpus import Asset, Corpus
from tests.system.client import Client
from tests.system.estate import Estate, checkpoint
from tests.system.server import Server

INDEX = "works"
MB = 1 << 20
PER_CLUSTER = 20
SAMPLES = 100
TIER_BYTES = 3840 * MB
"""The memory of a machine of the smallest tier, which has two processors."""
SMALL_BYTES = 512 * MB
SYSTEM_BYTES = 96 * MB
"""What a machine of that size does not leave to the process: its kernel, and mapped pages that are in use."""
BASE_BYTES = 256 * MB
"""The process without data. Most of it is room that is never touched: stacks of threads, heaps, buffers of libraries."""


def corpus(assets: int, simprints: int = 0) -> Corpus:
    return Corpus(11, clusters=assets // PER_CLUSTER, per_cluster=PER_CLUSTER, simprints_per_asset=simprints)


def limited(estate: Estate, limit: int) -> Server:
    """On two processors, under the limit."""
    processors = ",".join(str(number) for number in sorted(os.sched_getaffinity(0))[:2])
    return estate.server().given({}, ["taskset", "-c", processors, "prlimit", f"--data={limit}"])


def has_limit(server: Server, limit: int) -> bool:
    text = Path(f"/proc/{server.process.pid}/limits").read_text()
    return re.search(rf"^Max data size +{limit} +{limit} ", text, re.MULTILINE) is not None


def fill(server: Server, data: Corpus) -> None:
    with Client(server.port) as client:
        client.create_index(INDEX)
        for batch in data.batches(500):
            assert client.add(INDEX, batch).status == 201
        checkpoint(client)


def require_found(server: Server, data: Corpus) -> None:
    """A member of a cluster, asked for by its own units, is the best match with score 1; by a simprint, it is found with its place."""
    rng = random.Random(4)
    with Client(server.port) as client:
        assert client.index(INDEX).body["assets"] == data.size
        for row in rng.sample(range(data.size), SAMPLES):
            (asset,) = data.assets(row, row + 1)
            matches = client.search(INDEX, {"units": asset["units"]}, limit=PER_CLUSTER).body["global_matches"]
            assert (matches[0]["iscc_id"], matches[0]["score"]) == (asset["iscc_id"], 1.0)
            if "simprints" in asset:
                require_chunk(client, asset, rng)


def require_chunk(client: Client, asset: Asset, rng: random.Random) -> None:
    (kind,) = asset["simprints"]
    wanted = rng.choice(asset["simprints"][kind])
    answer = client.search(INDEX, {"simprints": {kind: [wanted["simprint"]]}}, limit=PER_CLUSTER).body
    places = {match["iscc_id"]: match["types"][kind]["chunks"][0] for match in answer["chunk_matches"]}
    assert (places[asset["iscc_id"]]["offset"], places[asset["iscc_id"]]["score"]) == (wanted["offset"], 1.0)


def require_fits(tmp_path: Path, data: Corpus, limit: int) -> None:
    """Filled, lost, restored and searched, all under the limit."""
    estate = Estate(tmp_path)
    with limited(estate, limit) as server:
        assert has_limit(server, limit)
        fill(server, data)
        require_found(server, data)
        server.kill()
    with limited(estate.without_disk(), limit) as server:
        assert has_limit(server, limit)
        require_found(server, data)
        assert server.stop() == 0


def test_the_smallest_tier(tmp_path: Path) -> None:
    """10,000 assets with simprints, in 2 processors and 3.75 GB."""
    require_fits(tmp_path, corpus(10_000, simprints=10), TIER_BYTES)


@pytest.mark.parametrize("assets", [20_000, pytest.param(100_000, marks=pytest.mark.soak)])
def test_a_small_machine(tmp_path: Path, assets: int) -> None:
    """100,000 assets in a machine of 512 MB; fewer in as much less."""
    room = SMALL_BYTES - SYSTEM_BYTES - BASE_BYTES
    require_fits(tmp_path, corpus(assets), BASE_BYTES + room * assets // 100_000)


def test_the_limit_is_one(tmp_path: Path) -> None:
    """With far too little the process ends, and not well: the other tests could fail."""
    server = limited(Estate(tmp_path), 80 * MB)
    server.start()
    try:
        assert server.wait_exit(30) != 0
    finally:
        server.end()
