"""SIGTERM under load: what was accepted is finished, what was acknowledged is there, and the process ends with 0 in time."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from tests.system.client import Client, Entry, Lost, Refused, metrics
from tests.system.entries import Entries, iscc_id
from tests.system.model import without_simprints
from tests.system.server import HOST, Server, wait_until

pytestmark = pytest.mark.timing

INDEX = "works"
WRITERS = 4
SEARCHERS = 2
DRAIN_SECONDS = 20
BATCH = 1000
BATCHES = 6


class Load:
    """Threads that write and search until the server is gone. `stored` is what was acknowledged."""

    def __init__(self, server: Server) -> None:
        self.stored: dict[str, Entry] = {}
        self.unanswered: set[str] = set()
        self.answers = 0
        self._port = server.port
        jobs = [(self._write, number) for number in range(WRITERS)] + [(self._search, number) for number in range(SEARCHERS)]
        self._threads = [threading.Thread(target=job, args=(number,)) for job, number in jobs]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _write(self, number: int) -> None:
        source = Entries(number)
        at = number
        with Client(self._port) as client:
            while True:
                entry = source.entry(iscc_id(at))
                try:
                    answer = client.add(INDEX, [entry])
                except Lost:
                    self.unanswered.add(entry["iscc_id"])
                    return
                except Refused:
                    return
                if answer.status == 503:
                    return
                assert answer.status == 201, answer
                self.stored[entry["iscc_id"]] = entry
                self.answers += 1
                at += WRITERS

    def _search(self, number: int) -> None:
        source = Entries(number)
        with Client(self._port) as client:
            while True:
                try:
                    answer = client.search(INDEX, source.query())
                except (Lost, Refused):
                    return
                if answer.status == 503:
                    return
                assert answer.status == 200, answer
                self.answers += 1


def test_what_was_acknowledged_under_load_is_there(tmp_path: Path) -> None:
    """SIGTERM in the middle of writes and searches: exit code 0 within the budget, and after a restart exactly the acknowledged assets."""
    with Server(tmp_path / "data", DRAIN_SECONDS=DRAIN_SECONDS, SEGMENT_CODES=256) as server:
        with Client(server.port) as client:
            client.create_index(INDEX)
        load = Load(server)
        wait_until(lambda: load.answers > 300, 60, "load")
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < DRAIN_SECONDS
        load.join()
        server.restart()
        with Client(server.port) as client:
            for number, entry in load.stored.items():
                assert client.get(INDEX, number).body == without_simprints(entry)
            late = sum(client.get(INDEX, number).status == 200 for number in load.unanswered)
            assert client.index(INDEX).body["assets"] == len(load.stored) + late


def test_accepted_writes_are_answered(tmp_path: Path) -> None:
    """Writes that wait in the lane when SIGTERM comes are committed and answered, and a second SIGTERM changes nothing."""
    with Server(tmp_path / "data", DRAIN_SECONDS=DRAIN_SECONDS) as server:
        with Client(server.port) as client:
            client.create_index(INDEX)
        batches = [batch(number) for number in range(BATCHES)]
        answers: list[int] = []
        connected = threading.Barrier(BATCHES)

        def add(entries: list[Entry]) -> None:
            with Client(server.port) as client:
                assert client.send("GET", "/healthz").status == 200
                connected.wait()
                answers.append(client.add(INDEX, entries).status)

        threads = [threading.Thread(target=add, args=(entries,)) for entries in batches]
        for thread in threads:
            thread.start()
        wait_until(lambda: metrics(server.port)['tidepool_lane_depth{lane="write"}'] >= 2, 60, "writes to wait")
        server.terminate()
        server.terminate()
        assert server.wait_exit() == 0
        for thread in threads:
            thread.join()
        assert len(answers) == BATCHES, "a request on an open connection had no answer"
        assert set(answers) <= {201, 503}
        assert answers.count(201) >= 2
        server.restart()
        with Client(server.port) as client:
            assert client.index(INDEX).body["assets"] == BATCH * answers.count(201)


def test_half_a_body_does_not_hold_the_stop(tmp_path: Path) -> None:
    """A client that never sends the rest of its body is cut off within the budget, and the exit code is 0."""
    with Server(tmp_path / "data", DRAIN_SECONDS=3) as server:
        with Client(server.port) as client:
            client.create_index(INDEX)
            client.add(INDEX, [Entries(1).entry(iscc_id(1))])
        with socket.create_connection((HOST, server.port)) as stuck:
            head = f"POST /indexes/{INDEX}/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n"
            stuck.sendall(head.encode() + b"[")
            wait_until(lambda: metrics(server.port)["tidepool_requests_in_flight"] >= 2, 30, "the half request to arrive")
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < 3 + 1
        server.restart()
        with Client(server.port) as client:
            assert client.get(INDEX, iscc_id(1)).status == 200


def test_idle_connections_do_not_hold_the_stop(tmp_path: Path) -> None:
    """Open connections without a request are closed at once."""
    with Server(tmp_path / "data", DRAIN_SECONDS=DRAIN_SECONDS) as server, Client(server.port) as client:
        assert client.send("GET", "/healthz").status == 200
        with socket.create_connection((HOST, server.port)):
            started = time.monotonic()
            assert server.stop() == 0
            assert time.monotonic() - started < DRAIN_SECONDS / 4


def batch(number: int) -> list[Entry]:
    """As many assets as one request may have."""
    source = Entries(number)
    return [source.entry(iscc_id(number * BATCH + at)) for at in range(BATCH)]
