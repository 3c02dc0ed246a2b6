"""A process that is stopped for longer than a take-over while its store answers badly: what it says after it woke up is true."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snapshots.clock import STILL_S
from snapshots.unshipped import read_unshipped
from tests.stores import Faulty, Store, faulty_store, moto_store
from tests.system.client import Answer, Client
from tests.system.entries import iscc_id
from tests.system.estate import INDEX, REMOTE, Estate, end_of, new_entry, require_entries
from tests.system.faulty_proxy import METHODS, SLOW_DOWN, pass_on
from tests.system.frozen import freeze, thaw
from tests.system.lookup import find_wholly
from tests.system.server import Server, wait_until

FENCED = 5
SHIPPED, WAITS = new_entry(1), new_entry(2)
REFUSED = [new_entry(number) for number in range(10, 20)]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with moto_store() as made:
        yield made


@contextmanager
def troubled(root: Path, store: Store, url: str) -> Iterator[tuple[Estate, Server, Faulty]]:
    """A service whose store answers 503 to everything: one write is in the bucket, one was acknowledged since and is not."""
    estate = Estate(root)
    with faulty_store(store) as faulty:
        settings = {"SNAPSHOT_URL": url, "SNAPSHOT_MISSING": "create"}
        estate.trust(url)
        with estate.server(**settings, environment=faulty.store.environment) as server:
            with Client(server.port, headers=REMOTE) as client:
                client.create_index(INDEX)
                assert client.add(INDEX, [SHIPPED]).status == 201
            for method in METHODS:
                faulty.always(method, SLOW_DOWN)
            with Client(server.port) as client:
                assert client.add(INDEX, [WAITS]).status == 201
            wait_until(lambda: any(each.method == "PUT" for each in faulty.seen[-3:]), 30, "the log to be refused")
            yield estate, server, faulty


def require_refusals(server: Server) -> None:
    """No write is acknowledged; searches are answered as before, also beside the first write, which waits for the store."""
    answers: list[Answer] = []
    writer = threading.Thread(target=lambda: answers.extend(refused(server)))
    writer.start()
    with Client(server.port) as client:
        assert find_wholly(client, INDEX, [WAITS]) == {WAITS["iscc_id"]}
        assert answers == [], "the search waited for the write"
    writer.join()
    assert [answer.status for answer in answers] == [503] * len(REFUSED)
    for answer in answers:
        assert "this process stood still, and the bucket has not said since then who owns the data: " in answer.body["detail"]
        assert "; nothing was written, send the request again later" in answer.body["detail"]
    require_entries(server, [SHIPPED, WAITS])


def refused(server: Server) -> list[Answer]:
    with Client(server.port) as client:
        return [client.add(INDEX, [entry]) for entry in REFUSED]


def test_after_a_take_over_nothing_is_acknowledged(tmp_path: Path, store: Store) -> None:
    """Neither while the store is in trouble nor after; what was acknowledged before the sleep is in the file."""
    url = store.url
    with troubled(tmp_path / "old", store, url) as (old, first, faulty):
        freeze(first)
        asleep = time.monotonic()
        new = Estate(tmp_path / "new")
        new.trust(url)
        with new.server(SNAPSHOT_URL=url, environment=store.environment) as second:
            wait_until(lambda: time.monotonic() - asleep > STILL_S + 1, 30, "the sleep to be longer than a busy machine's")
            thaw(first)
            require_refusals(first)
            assert first.process.poll() is None, first.log()
            for method in METHODS:
                faulty.always(method, pass_on)
            code, words = end_of(first)
            assert (code, "was created by another writer" in words) == (FENCED, True), words
            with Client(second.port) as client:
                assert find_wholly(client, INDEX, [SHIPPED, WAITS, *REFUSED]) == {SHIPPED["iscc_id"]}
        (kept,) = old.data.glob("*.fenced-*.log")
        assert len(read_unshipped(kept).rows) == 1


def test_without_one_writes_are_acknowledged_again(tmp_path: Path, store: Store) -> None:
    """Once the store answers; nothing is lost, and what was refused is not there."""
    with troubled(tmp_path, store, store.url) as (_, server, faulty):
        freeze(server)
        asleep = time.monotonic()
        wait_until(lambda: time.monotonic() - asleep > STILL_S + 1, 30, "the sleep to be longer than a busy machine's")
        thaw(server)
        require_refusals(server)
        for method in METHODS:
            faulty.always(method, pass_on)
        with Client(server.port, headers=REMOTE) as client:
            wait_until(lambda: client.delete(INDEX, iscc_id(7)).status == 404, 60, "the store to say who owns it")
            assert client.add(INDEX, [new_entry(3)]).status == 201
        require_entries(server, [SHIPPED, WAITS, new_entry(3)])
        assert server.log().count('"this process stood still"') == 1
