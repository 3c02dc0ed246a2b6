"""A store that refuses, hangs, loses answers and lies, under writing and searching: nothing acknowledged is lost, searches never notice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshots.addresses import open_bucket
from snapshots.prefix import Prefix
from tests.stores import ceph_store, faulty_store, moto_store
from tests.stores.faulty import reset
from tests.system.client import Client, Lost, Refused
from tests.system.entries import iscc_id, unique_entry
from tests.system.estate import INDEX, REMOTE, Estate, checkpoint, require_entries, require_sound
from tests.system.faulty_proxy import METHODS, Chaos, Counted, pass_on
from tests.system.lookup import find_wholly
from tests.system.model import Entry
from tests.system.server import Server, wait_until

pytestmark = pytest.mark.timing

ASSETS = 40  # of each writer
STILL = 10
OUTDATED = 30
SHARE = 0.25
CHECKPOINT_SECONDS = 300.0
"""How long one may take while the store is in trouble."""
AGAIN_SECONDS = 0.05
BACKLOG_BYTES = 1 << 20


class Storm:
    """Two writers, one of them remote, two searchers and checkpoints, until `stop`. `wrong` collects what must not happen."""

    def __init__(self, server: Server) -> None:
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self.slowest_write_s = 0.0
        self.known: dict[str, Entry | None] = {}
        self.outdated: list[Entry] = []
        self._port = server.port
        self._stopping = threading.Event()
        rng = random.Random(1)
        self._still = [unique_entry(rng, iscc_id(9000 + at)) for at in range(STILL)]
        with Client(self._port) as client:
            assert client.create_index(INDEX).status == 201
            assert client.add(INDEX, self._still).status == 201
        jobs: list[Callable[[], None]] = [
            lambda: self._write(0, {}),
            lambda: self._write(1, REMOTE),
            self._search,
            self._search,
            self._checkpoint,
        ]
        self._threads = [threading.Thread(target=job) for job in jobs]
        for thread in self._threads:
            thread.start()

    @property
    def present(self) -> list[Entry]:
        return [*self._still, *(entry for entry in self.known.values() if entry is not None)]

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int, headers: dict[str, str]) -> None:
        """Each write is repeated until it is acknowledged: what was refused may be there or not."""
        rng = random.Random(number)
        ids = [iscc_id(number * ASSETS + at) for at in range(ASSETS)]
        with Client(self._port, headers=headers) as client:
            while not self._stopping.is_set():
                chosen = rng.choice(ids)
                before = self.known.get(chosen)
                entry = None if before is not None and rng.random() < 0.2 else unique_entry(rng, chosen)
                started = time.monotonic()
                while (status := self._send(client, chosen, entry)) in (0, 503):
                    if not status:
                        return
                    self.done["refused"] += 1
                    threading.Event().wait(AGAIN_SECONDS)
                self.slowest_write_s = max(self.slowest_write_s, time.monotonic() - started)
                self._check(status in ((201,) if entry else (204, 404)), f"a write was answered with {status}")
                if before is not None:
                    self.outdated.append(before)
                self.known[chosen] = entry
                self.done["remote" if headers else "local"] += 1

    def _send(self, client: Client, number: str, entry: Entry | None) -> int:
        """0 when nobody is there any more."""
        try:
            return client.delete(INDEX, number).status if entry is None else client.add(INDEX, [entry]).status
        except (Lost, Refused) as error:
            self._check(False, repr(error))
            return 0

    def _search(self) -> None:
        with Client(self._port) as client:
            while not self._stopping.is_set():
                entry = random.choice(self._still)
                answer = client.search(INDEX, {"units": entry["units"]})
                found = [match["iscc_id"] for match in answer.body["global_matches"]] if answer.status == 200 else answer
                self._check(found == [entry["iscc_id"]], f"a search was answered with {found}")
                self.done["searches"] += 1
                threading.Event().wait(0.002)  # a breath for the machine, nothing is waited for

    def _checkpoint(self) -> None:
        with Client(self._port, CHECKPOINT_SECONDS) as client:
            while not self._stopping.wait(1.0):
                status = client.send("POST", "/snapshots").status
                self._check(status in (201, 503), f"a checkpoint was answered with {status}")
                self.done[f"checkpoint {status}"] += 1

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            self.wrong.append(what)


@pytest.mark.parametrize(
    ("kind", "seconds"),
    [
        pytest.param("moto", 12, id="moto"),
        pytest.param("moto", 300, id="moto-at-length", marks=pytest.mark.soak),
        pytest.param("ceph", 300, id="ceph-at-length", marks=pytest.mark.soak),
    ],
)
def test_a_bad_store_costs_nothing(tmp_path: Path, kind: str, seconds: float) -> None:
    """After the faults everything acknowledged is in the bucket: an empty disk gets exactly what the writers know, and nothing older."""
    estate = Estate(tmp_path)
    with moto_store() if kind == "moto" else ceph_store() as behind, faulty_store(behind) as faulty:
        chaos = Chaos(faulty, 1, SHARE, slow=seconds > 60)
        url = behind.url
        estate.trust(url)
        with estate.server(SNAPSHOT_URL=url, SNAPSHOT_MISSING="create", environment=faulty.store.environment) as server:
            storm = Storm(server)
            chaos.on = True
            assert not threading.Event().wait(seconds)  # how long the faults last
            chaos.on = False
            storm.stop()
            assert storm.wrong == [], warnings(server)
            assert server.process.poll() is None, warnings(server)
            assert all(chaos.done[name] for name in ("slow down", "reset", "lost", "cut", "trickle", "flip")), chaos.done
            assert min(storm.done[name] for name in ("local", "remote", "searches")) > 10, storm.done
            with Client(server.port, headers=REMOTE) as client:
                wait_until(lambda: checkpoint_works(client), 60, "a checkpoint")
            require_entries(server, storm.present)
            server.kill()
        bucket = open_bucket(url, behind.environment)
        require_sound(Prefix(bucket))
        bucket.close()
        with estate.without_disk().server(SNAPSHOT_URL=url, environment=behind.environment) as server, Client(server.port) as client:
            require_entries(server, storm.present)
            assert find_wholly(client, INDEX, storm.outdated[-OUTDATED:]) == set()


def warnings(server: Server) -> str:
    return "\n".join(line for line in server.log().splitlines() if '"level":"info"' not in line)[-5000:]


def checkpoint_works(client: Client) -> bool:
    return client.send("POST", "/snapshots").status == 201


def test_a_store_that_is_away_for_long(tmp_path: Path) -> None:
    """Writes go on until the backlog is full, then get 503 with the reason; the lag is told. When the store is back, nothing was lost."""
    estate = Estate(tmp_path)
    with moto_store() as behind, faulty_store(behind) as faulty:
        url = behind.url
        estate.trust(url)
        settings = {"SNAPSHOT_URL": url, "SNAPSHOT_MISSING": "create", "LOG_BACKLOG_BYTES": BACKLOG_BYTES}
        with estate.server(**settings, environment=faulty.store.environment) as server, Client(server.port) as client:
            client.create_index(INDEX)
            wait_until(lambda: lag_rows(client) == 0, 60, "the index to be shipped")
            for method in METHODS:
                faulty.always(method, reset)
            rng = random.Random(4)
            written: list[Entry] = []
            while True:
                entry = {**unique_entry(rng, iscc_id(len(written))), "metadata": {"name": rng.randbytes(50_000).hex()}}
                answer = client.add(INDEX, [entry])
                if answer.status != 201:
                    break
                written.append(entry)
            assert answer.status == 503
            assert "writes wait for the bucket (ISCC_SEARCH_LOG_BACKLOG_BYTES), which does not take them: " in answer.body["detail"]
            assert len(written) * 100_000 > 0.9 * BACKLOG_BYTES
            status = client.send("GET", "/snapshots/status").body
            assert status["lag_seconds"] > 0
            assert status["lag_rows"] == len(written)
            assert status["backlog_bytes"] > BACKLOG_BYTES
            require_entries(server, written)
            for method in METHODS:
                faulty.always(method, pass_on)
            wait_until(lambda: lag_rows(client) == 0, 60, "the backlog to be shipped")
            assert client.add(INDEX, [unique_entry(rng, iscc_id(len(written)))]).status == 201
            with Client(server.port, headers=REMOTE) as remote:
                assert remote.delete(INDEX, iscc_id(len(written))).status == 204
            server.kill()
        with estate.without_disk().server(**settings, environment=behind.environment) as server:
            require_entries(server, written)


def lag_rows(client: Client) -> int:
    return int(client.send("GET", "/snapshots/status").body["lag_rows"])


def test_a_bucket_that_cannot_be_reached_at_the_start(tmp_path: Path) -> None:
    """With data: searches are answered, writes are not until the bucket answers and is claimed. Without, or when told so: exit 6."""
    estate = Estate(tmp_path)
    entry = unique_entry(random.Random(1), iscc_id(1))
    with moto_store() as behind, faulty_store(behind) as faulty:
        url = behind.url
        estate.trust(url)
        settings = {"SNAPSHOT_URL": url, "environment": faulty.store.environment}
        with estate.server(**settings, SNAPSHOT_MISSING="create") as server, Client(server.port, headers=REMOTE) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, [entry]).status == 201
            assert server.stop() == 0
        for method in METHODS:
            faulty.always(method, reset)
        empty = Estate(tmp_path / "empty").server(**settings)
        failing = estate.copy(tmp_path / "failing").server(**settings, SNAPSHOT_UNREACHABLE="fail")
        servers = [empty, failing, server]
        try:
            for each in servers:
                each.start()
            assert [empty.wait_exit(), failing.wait_exit()] == [6, 6]
            assert "there is no data here, and the bucket that may have it cannot be reached: " in empty.log()
            assert "set ISCC_SEARCH_SNAPSHOT_UNREACHABLE=serve to answer searches meanwhile" in failing.log()
            assert not (tmp_path / "empty" / "data" / "live").exists()
            server.wait_ready()
            require_entries(server, [entry])
            with Client(server.port) as client:
                answer = client.delete(INDEX, entry["iscc_id"])
                assert answer.status == 503
                assert f"the bucket {url} could not be reached at the start" in answer.body["detail"]
                for method in METHODS:
                    faulty.always(method, pass_on)
                wait_until(lambda: client.delete(INDEX, entry["iscc_id"]).status in (204, 404), 60, "the bucket to be claimed")
            assert server.stop() == 0
        finally:
            for each in servers:
                each.end()
        estate.without_disk().trust(url)
        with estate.server(**settings) as server:
            require_entries(server, [])


def test_a_warm_start_downloads_nothing(tmp_path: Path) -> None:
    """A disk that has everything costs a start a few small requests, and an idle service none that writes or lists."""
    estate = Estate(tmp_path)
    with moto_store() as behind, faulty_store(behind) as faulty:
        counted = Counted(faulty)
        url = behind.url
        estate.trust(url)
        settings = {"SNAPSHOT_URL": url, "SNAPSHOT_MISSING": "create", "environment": faulty.store.environment}
        with estate.server(**settings) as server, Client(server.port, headers=REMOTE) as client:
            client.create_index(INDEX)
            entries = [unique_entry(random.Random(at), iscc_id(at)) for at in range(20)]
            assert client.add(INDEX, entries).status == 201
            checkpoint(client)
            client.close()
            assert server.stop() == 0
            counted.paths.clear()
            server.restart()
            assert not [path for path in counted.paths if "/blobs/" in path]
            assert len(counted.paths) < 25, counted.paths
            require_entries(server, entries)
            counted.methods.clear()
            counted.paths.clear()
            with Client(server.port) as idle:
                wait_until(lambda: bool(counted.paths), 30, "the owner to ask whether it still is")
                assert idle.send("GET", "/snapshots/status").status == 200
            assert counted.methods == {"GET": len(counted.paths)}
            assert not [path for path in counted.paths if "list-type" in path]
