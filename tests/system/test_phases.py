"""The life of the process as an operator sees it: its states, the phases of a stop, and probes that answer whatever goes on."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stores import Faulty, faulty_store, moto_store
from tests.stores.faulty import Request, hung
from tests.system.client import Client, metrics
from tests.system.estate import INDEX, REMOTE, Estate, checkpoint, end_of, new_entry, require_entries
from tests.system.logged import events, phases, states
from tests.system.server import HOST, Server, wait_until

pytestmark = pytest.mark.timing

ALIVE_SECONDS = 1.0
"""Within that a liveness probe has its answer, on a machine that does other things too."""
PHASES = ["requests", "writes", "log", "close"]


class Gate:
    """Holds requests of a store until it is opened; then they pass, or have another fault."""

    def __init__(self) -> None:
        self.fault: Any = lambda request: request.reply(request.pass_on())
        self.reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, request: Request) -> None:
        if "blobs" in request.path:
            self.reached.set()
            self._opened.wait(60)
            self.fault(request)
        else:
            request.reply(request.pass_on())

    def open(self) -> None:
        self._opened.set()


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    with moto_store() as store, faulty_store(store) as found:
        yield found


@contextlib.contextmanager
def restoring(faulty: Faulty, tmp_path: Path) -> Iterator[tuple[Server, Gate]]:
    """A service that fills an empty disk, held at the first file. Its bucket has one asset in a checkpoint."""
    url = faulty.store.url
    for root in (tmp_path / "first", tmp_path):
        Estate(root).trust(url)
    filling = Server(tmp_path / "first" / "data", SNAPSHOT_MISSING="create", SNAPSHOT_URL=url).given(faulty.store.environment)
    with filling as first, Client(first.port, headers=REMOTE) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(1)]).status == 201
        checkpoint(client)
        first.kill()
    gate = Gate()
    faulty.always("GET", gate)
    server = Server(tmp_path / "data", DRAIN_GRACE_SECONDS=2, SNAPSHOT_URL=url).given(faulty.store.environment)
    server.start()
    try:
        assert gate.reached.wait(30), server.log()
        wait_until(lambda: answers(server.port), 30, "the port")
        yield server, gate
    finally:
        gate.open()
        server.end()


def shipping(faulty: Faulty, tmp_path: Path, drain_seconds: int) -> Server:
    """A service, not started, that ships to the store."""
    url = faulty.store.url
    Estate(tmp_path).trust(url)
    server = Server(tmp_path / "data", SNAPSHOT_URL=url, SNAPSHOT_MISSING="create", DRAIN_SECONDS=drain_seconds)
    return server.given(faulty.store.environment)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError, httpx.HTTPError):
        return httpx.get(f"http://{HOST}:{port}/healthz").status_code == 200
    return False


def told_state(server: Server) -> set[str]:
    """What /readyz, /status and the metrics say."""
    shown = {name.split('"')[1] for name, value in metrics(server.port).items() if name.startswith("tidepool_state{") and value == 1}
    ready = httpx.get(f"{server.url}/readyz")
    assert (ready.status_code == 200) == (ready.json()["status"] == "ready")
    return {*shown, ready.json().get("state", ready.json()["status"]), httpx.get(f"{server.url}/status").json()["state"]}


def alive_within(server: Server, rounds: int = 20) -> float:
    """The longest that a liveness probe waited."""
    longest = 0.0
    for _ in range(rounds):
        started = time.monotonic()
        assert httpx.get(f"{server.url}/healthz", timeout=30).status_code == 200
        longest = max(longest, time.monotonic() - started)
    return longest


def test_states_from_an_empty_disk_to_the_end(faulty: Faulty, tmp_path: Path) -> None:
    """Each is told by the probe, the status and the metrics, and has a line in the log with the time that it lasted."""
    with restoring(faulty, tmp_path) as (server, gate):
        assert told_state(server) == {"restoring"}
        assert alive_within(server) < ALIVE_SECONDS
        assert httpx.get(f"{server.url}/indexes").status_code == 503
        gate.open()
        server.wait_ready()
        assert told_state(server) == {"ready"}
        require_entries(server, [new_entry(1)])
        server.terminate()
        wait_until(lambda: not server.is_ready(), 10, "the service to be unready")
        assert told_state(server) == {"draining"}
        assert server.wait_exit() == 0
        assert states(server) == ["restoring", "opening", "catching-up", "ready", "draining"]
        lines = events(server, "state")
        assert [line["before"] for line in lines] == ["opening", *states(server)[:-1]]
        assert all(line["seconds"] >= 0 and line["reason"] for line in lines if line["state"] != "ready")


def test_a_failure_behind_the_start_of_the_server(faulty: Faulty, tmp_path: Path) -> None:
    """The port is open already, then the restore meets damage: the exit code says so, and one line on stderr says why."""
    with restoring(faulty, tmp_path) as (server, gate):
        gate.fault = lambda request: request.reply(request.pass_on()._replace(body=b"damaged"))
        gate.open()
        code, words = end_of(server)
        last = [line for line in server.log().splitlines() if not line.startswith("{")]
    assert code == 4
    assert last == [f"tidepool: {words}"]
    assert "digest" in words or "bytes" in words
    assert states(server)[-1] == "failed"
    assert events(server, "state")[-1]["level"] == "error"
    assert "grace" not in phases(server)


def test_a_stop_while_restoring(faulty: Faulty, tmp_path: Path) -> None:
    """Nobody was answered yet, so nothing is waited for: it ends at once with 0, and the next start goes on."""
    with restoring(faulty, tmp_path) as (server, gate):
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 2
        gate.open()
        server.restart()
        require_entries(server, [new_entry(1)])


def test_a_stop_before_the_port_is_open(tmp_path: Path) -> None:
    """From the moment at which the directory is locked a signal ends it in order."""
    server = Server(tmp_path / "data")
    for number in (signal.SIGTERM, signal.SIGINT):
        server.start()
        try:
            wait_until((tmp_path / "data" / "tidepool.lock").exists, 30, "the lock")
            server.process.send_signal(number)
            assert server.wait_exit(20) == 0, server.log()
        finally:
            server.end()
        (tmp_path / "data" / "tidepool.lock").unlink()
    assert "Traceback" not in server.log()


def test_a_bucket_that_hangs_and_a_checkpoint_leave_the_probe_alone(faulty: Faulty, tmp_path: Path) -> None:
    """Liveness depends on nothing: not while a checkpoint waits for the store, and not while writes do."""
    with shipping(faulty, tmp_path, 4) as server, Client(server.port) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(1)]).status == 201
        seen = len(faulty.seen)
        faulty.always("PUT", hung)
        waiting = threading.Thread(target=_ask_checkpoint, args=(server,))
        waiting.start()
        assert client.add(INDEX, [new_entry(2)]).status == 201
        wait_until(lambda: any(request.method == "PUT" for request in faulty.seen[seen:]), 30, "a call that hangs")
        assert alive_within(server) < ALIVE_SECONDS
        assert server.is_ready()
        server.kill()
        waiting.join()


def _ask_checkpoint(server: Server) -> None:
    with contextlib.suppress(httpx.HTTPError):
        httpx.post(f"{server.url}/snapshots", timeout=60)


def test_in_the_grace_everything_is_answered(tmp_path: Path) -> None:
    """Not ready, but open: a load balancer that has not noticed yet loses nothing. Then the port closes."""
    with Server(tmp_path / "data", DRAIN_SECONDS=20, DRAIN_GRACE_SECONDS=3) as server:
        httpx.post(f"{server.url}/indexes", json={"name": INDEX})
        started = time.monotonic()
        server.terminate()
        wait_until(lambda: not server.is_ready(), 10, "the service to be unready")
        ready = httpx.get(f"{server.url}/readyz")
        assert (ready.status_code, ready.json()["state"]) == (503, "draining")
        assert httpx.post(f"{server.url}/indexes/{INDEX}/assets", json=[new_entry(1)]).status_code == 201
        assert httpx.post(f"{server.url}/indexes/{INDEX}/search", json={"units": new_entry(1)["units"]}).status_code == 200
        assert time.monotonic() - started < 3, "too slow to say anything"
        assert server.wait_exit() == 0
        assert time.monotonic() - started >= 3
        assert phases(server) == ["grace", *PHASES]
        server.restart()
        require_entries(server, [new_entry(1)])


def test_further_signals_change_nothing(tmp_path: Path) -> None:
    """Ten of them, while a request holds the stop: it is answered, everything is closed in order, and the exit code is 0."""
    with Server(tmp_path / "data", DRAIN_SECONDS=20, DRAIN_GRACE_SECONDS=1) as server:
        httpx.post(f"{server.url}/indexes", json={"name": INDEX})
        with half_request(server, [new_entry(1)]) as (connection, rest):
            for _ in range(5):
                server.process.send_signal(signal.SIGTERM)
                server.process.send_signal(signal.SIGINT)
            wait_until(lambda: "grace" in phases(server), 10, "the end of the grace")
            for _ in range(5):
                server.process.send_signal(signal.SIGINT)
            connection.sendall(rest)
            while server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
            assert b"HTTP/1.1 201" in connection.recv(4096)
        assert server.wait_exit() == 0
        assert phases(server) == ["grace", *PHASES]
        assert len(events(server, "draining")) == len(events(server, "stopped")) == 1
        assert (tmp_path / "data" / "clean").exists()
        server.restart()
        require_entries(server, [new_entry(1)])


def test_late_writes_are_refused_and_the_budget_holds(faulty: Faulty, tmp_path: Path) -> None:
    """With a store that hangs and a client that is slow: the phases are those of the plan, each within its time; a write that comes when
    nothing is taken any more gets 503; what the bucket does not have is on the disk, and the exit code says that it is not shipped."""
    budget = 10
    with shipping(faulty, tmp_path, budget) as server, Client(server.port) as client:
        client.create_index(INDEX)
        faulty.always("PUT", hung)
        assert client.add(INDEX, [new_entry(1)]).status == 201
        with half_request(server, [new_entry(2)]) as (connection, rest):
            started = time.monotonic()
            server.terminate()
            wait_until(lambda: "writes" in phases(server), budget, "the lanes to end")
            connection.sendall(rest)
            answer = connection.recv(4096)
            assert b"HTTP/1.1 503" in answer
            assert b"the service is stopping" in answer
            code, words = end_of(server)
        assert time.monotonic() - started < budget + 1
        assert code == 1
        assert "the bucket does not have the last writes" in words
        assert phases(server) == PHASES
        assert all(line["seconds"] <= line["at_most_s"] + 0.5 for line in events(server, "stop phase"))
        assert sum(line["at_most_s"] for line in events(server, "stop phase") if line["phase"] in ("requests", "writes")) < budget
        faulty.always("PUT", lambda request: request.reply(request.pass_on()))
        server.restart()
        require_entries(server, [new_entry(1)])


@contextlib.contextmanager
def half_request(server: Server, entries: list[Any]) -> Iterator[tuple[socket.socket, bytes]]:
    """A write whose body has come by half, and the rest of it."""
    body = json.dumps(entries).encode()
    head = f"POST /indexes/{INDEX}/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((HOST, server.port), timeout=30) as connection:
        connection.sendall(head.encode() + body[:10])
        wait_until(lambda: metrics(server.port)["tidepool_requests_in_flight"] >= 2, 10, "the request to begin")
        yield connection, body[10:]
