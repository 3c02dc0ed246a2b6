"""A service that has done everything once, so that every metric has a value; and a Prometheus that scrapes it."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from service.boot.chores import STATE, Done
from service.boot.ended import Failures
from tests.stores.children import Children
from tests.system.client import Client
from tests.system.estate import INDEX, QUICK, checkpoint, some_entries
from tests.system.server import HOST, Server, free_port

NAME = re.compile(r"\b((?:tidepool|process)_[a-z_]+|up)\b(?![\"=])")
"""A metric within an expression."""
ANY_JOB = "tidepool"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
needs_prometheus = pytest.mark.skipif(not (PROMETHEUS and PROMTOOL), reason="needs Debian's prometheus")


@contextmanager
def worked(root: Path) -> Iterator[Server]:
    """Written to, checkpointed, restored from its bucket, drilled. What takes a day, and how it failed, it finds in what an earlier process
    left."""
    rng = random.Random(8)
    server = Server(root / "data", SNAPSHOT_URL=(root / "bucket").as_uri(), **QUICK)
    with server, Client(server.port) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, some_entries(rng, 0, 200)).status == 201
        checkpoint(client)
        client.close()
        assert server.stop() == 0
        shutil.rmtree(server.directory / "live")
        earlier = Done(pruned_generation=1, verified_at=1.7e9, verified_generation=1, verified_good_at=1.7e9)
        (server.directory / STATE).write_bytes(msgspec.json.encode(earlier))
        Failures(server.directory).note(1, "opening", "no room", served=False)
        server.restart()
        work(client, rng, 200)
        checkpoint(client)
        assert client.send("POST", "/snapshots/drill").status in (200, 201, 202)
        yield server


def work(client: Client, rng: random.Random, first: int) -> None:
    """Writes and searches, of both kinds."""
    entries = some_entries(rng, first, 20)
    assert client.add(INDEX, entries).status == 201
    assert client.search(INDEX, {"units": entries[0]["units"]}).status == 200
    assert client.search(INDEX, {"iscc_id": entries[0]["iscc_id"]}).status == 200
    assert client.get(INDEX, entries[0]["iscc_id"]).status == 200


class Load:
    """A thread that works until the end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        rng, first = random.Random(9), 1000
        with Client(self._port) as client:
            while not self._stopping.wait(0.05):
                work(client, rng, first)
                first += 20


def names_of(server: Server) -> set[str]:
    """Every metric that the service shows, histograms with the names of their series."""
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def names_in(expression: str) -> set[str]:
    """The metrics that an expression asks for; what stands in braces and behind `by` are labels."""
    bare = re.sub(r"\{[^}]*\}|\b(?:by|on|ignoring|without) \([^)]*\)", "", expression)
    return set(NAME.findall(bare))


@contextmanager
def prometheus(root: Path, target: str) -> Iterator[str]:
    """The address of a Prometheus that asks the target each second."""
    assert PROMETHEUS is not None
    port = free_port()
    config = root / "prometheus.yml"
    scrape = {"job_name": ANY_JOB, "scrape_interval": "1s", "scrape_timeout": "1s", "static_configs": [{"targets": [target]}]}
    config.write_text(json.dumps({"scrape_configs": [scrape]}), "utf-8")
    url = f"http://{HOST}:{port}"
    with Children(root / "prometheus-log") as children:
        flags = [f"--config.file={config}", f"--storage.tsdb.path={root / 'series'}", f"--web.listen-address={HOST}:{port}"]
        children.start("prometheus", [PROMETHEUS, *flags])
        children.wait_answers(f"{url}/-/ready")
        yield url


def ask(url: str, expression: str) -> list[Any]:
    """The samples that an expression has now."""
    query = urllib.parse.urlencode({"query": expression})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
        found: list[Any] = json.load(answer)["data"]["result"]
        return found
