"""A machine replaced by the next behind HAProxy, again and again, while clients go on: a read tried again succeeds, no write is lost.

One process owns the data, so the old one stops before the new one starts, with an empty disk that it fills from the bucket. In between
nobody is ready and HAProxy answers 503: that is what a client sees, and for how long is measured.
"""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.infra.files import INFRA
from tests.stores.children import Children
from tests.system.client import Answer, Client, Lost, Refused
from tests.system.entries import iscc_id, unique_entry
from tests.system.lookup import find_wholly
from tests.system.model import Entry
from tests.system.server import HOST, Server, free_port, wait_until

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
INDEX = "works"
STILL = 40
READERS = WRITERS = 2
PATIENCE_S = 60.0
PAUSE_S = 0.05
AGAIN = (502, 503)
"""What a client that reads takes as: not now."""
ROLLS = 3
WRITES_BETWEEN = 60
GRACE_S = 3
"""So long a machine that was told to stop still answers: HAProxy sees within two seconds that it is not ready."""

pytestmark = [pytest.mark.timing, pytest.mark.skipif(HAPROXY is None, reason="needs Debian's haproxy")]


class Reader(threading.Thread):
    """Searches for what never changes. An answer is right, or it is asked for again; `worst_s` is the longest wait for one."""

    def __init__(self, port: int, still: list[Entry], stopping: threading.Event) -> None:
        super().__init__()
        self.answers: Counter[int] = Counter()
        self.wrong: list[Answer] = []
        self.lost = 0
        self.worst_s = 0.0
        self._port = port
        self._still = still
        self._stopping = stopping

    def run(self) -> None:
        rng = random.Random(self.ident)
        with Client(self._port) as client:
            while not self._stopping.is_set() and not self.wrong:
                self._read(client, rng.choice(self._still))

    def _read(self, client: Client, entry: Entry) -> None:
        began = time.monotonic()
        while True:
            try:
                answer = client.search(INDEX, {"units": entry["units"]})
            except (Lost, Refused):
                self.lost += 1
            else:
                self.answers[answer.status] += 1
                if answer.status not in AGAIN:
                    break
            if time.monotonic() - began > PATIENCE_S:
                raise AssertionError("a read had no answer")
            threading.Event().wait(PAUSE_S)  # as a client does between two tries
        found = [match["iscc_id"] for match in answer.body["global_matches"]] if answer.status == 200 else []
        if found != [entry["iscc_id"]]:
            self.wrong.append(answer)
        self.worst_s = max(self.worst_s, time.monotonic() - began)


class Writer(threading.Thread):
    """Adds assets of its own, each once. 201: acknowledged. 503: refused. Anything else: it is there wholly or not at all."""

    def __init__(self, port: int, number: int, stopping: threading.Event) -> None:
        super().__init__()
        self.acknowledged: list[Entry] = []
        self.refused: list[Entry] = []
        self.doubtful: list[Entry] = []
        self.wrong: list[Answer] = []
        self._port = port
        self._number = number
        self._stopping = stopping

    def run(self) -> None:
        rng, at = random.Random(self._number), STILL + self._number
        with Client(self._port) as client:
            while not self._stopping.is_set():
                self._write(client, unique_entry(rng, iscc_id(at)))
                at += WRITERS

    def _write(self, client: Client, entry: Entry) -> None:
        try:
            answer = client.add(INDEX, [entry])
        except Lost:
            self.doubtful.append(entry)
            return
        except Refused:
            self.refused.append(entry)
            return
        kept = {201: self.acknowledged, 503: self.refused, 502: self.doubtful}.get(answer.status)
        if kept is None:
            self.wrong.append(answer)
            return
        kept.append(entry)
        if answer.status != 201:
            threading.Event().wait(PAUSE_S)


def test_clients_outlive_the_machines(tmp_path: Path) -> None:
    """No read is answered wrongly or never, and every acknowledged write is found in the end, on the fourth machine."""
    settings = {"SNAPSHOT_URL": (tmp_path / "bucket").as_uri(), "LOG_INTERVAL": 0.1, "DRAIN_GRACE_SECONDS": GRACE_S}
    machines = [Server(tmp_path / name, **settings) for name in ("one", "two")]
    rng, stopping = random.Random(2), threading.Event()
    still = [unique_entry(rng, iscc_id(at)) for at in range(STILL)]
    with ended(machines), haproxy(tmp_path, [machine.port for machine in machines]) as port:
        start(machines[0])
        wait_until(lambda: status(port, "/readyz") == 200, 30, "the proxy to see the first machine")
        with Client(port) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, still).status == 201
        readers = [Reader(port, still, stopping) for _ in range(READERS)]
        writers = [Writer(port, number, stopping) for number in range(WRITERS)]
        for thread in (*readers, *writers):
            thread.start()
        try:
            for roll in range(ROLLS):
                wait_for_writes(writers)
                assert machines[roll % 2].stop() == 0
                start(machines[1 - roll % 2])
            wait_for_writes(writers)
        finally:
            stopping.set()
            for thread in (*readers, *writers):
                thread.join()
        require_nothing_lost(port, still, writers)
    assert [reader.wrong for reader in readers] == [[]] * READERS
    assert all(reader.answers[200] > 100 for reader in readers)
    assert any(writer.refused for writer in writers), "there was no gap: the test has shown nothing"
    assert max(reader.worst_s for reader in readers) < PATIENCE_S


def test_nobody_ready_is_told_with_a_time(tmp_path: Path) -> None:
    """503 with Retry-After, also from the proxy itself; the metrics stay inside."""
    with haproxy(tmp_path, [free_port(), free_port()]) as port, Client(port) as client:
        answer = client.index(INDEX)
        assert (answer.status, answer.headers["retry-after"]) == (503, "2")
        assert client.send("GET", "/metrics").status == 404


def require_nothing_lost(port: int, still: list[Entry], writers: list[Writer]) -> None:
    """What was acknowledged is found by each of its units, what was refused is not there."""
    acknowledged = [entry for writer in writers for entry in writer.acknowledged]
    refused = [entry for writer in writers for entry in writer.refused]
    assert [writer.wrong for writer in writers] == [[]] * WRITERS
    with Client(port) as client:
        assert find_wholly(client, INDEX, still) == {entry["iscc_id"] for entry in still}
        assert find_wholly(client, INDEX, acknowledged) == {entry["iscc_id"] for entry in acknowledged}
        assert find_wholly(client, INDEX, refused) == set()
        late = find_wholly(client, INDEX, [entry for writer in writers for entry in writer.doubtful])
        assert client.index(INDEX).body["assets"] == len(still) + len(acknowledged) + len(late)


def wait_for_writes(writers: list[Writer]) -> None:
    goal = sum(len(writer.acknowledged) for writer in writers) + WRITES_BETWEEN
    wait_until(lambda: sum(len(writer.acknowledged) for writer in writers) >= goal, 60, "writes")


def start(machine: Server) -> None:
    """A new one: its disk is empty."""
    shutil.rmtree(machine.directory, ignore_errors=True)
    machine.start()
    machine.wait_ready()


@contextmanager
def ended(machines: list[Server]) -> Iterator[None]:
    try:
        yield
    finally:
        for machine in machines:
            if hasattr(machine, "process"):
                machine.end()


@contextmanager
def haproxy(root: Path, ports: list[int]) -> Iterator[int]:
    """The configuration of `infra/haproxy` with other addresses. Where it listens."""
    assert HAPROXY is not None
    port = free_port()
    text = (INFRA / "haproxy/haproxy.cfg").read_text("utf-8").replace("bind :8080", f"bind {HOST}:{port}")
    for place, machine in zip(("10.0.0.1:8000", "10.0.0.2:8000"), ports, strict=True):
        assert place in text
        text = text.replace(place, f"{HOST}:{machine}")
    config = root / "haproxy.cfg"
    config.write_text(text, "utf-8")
    with Children(root / "haproxy-log") as children:
        children.start("haproxy", [HAPROXY, "-db", "-f", config])
        wait_until(lambda: status(port, "/metrics") == 404, 30, "the proxy")
        yield port


def status(port: int, path: str) -> int:
    """0 when nobody answers."""
    with Client(port) as client:
        try:
            return client.send("GET", path).status
        except (Lost, Refused):
            return 0
