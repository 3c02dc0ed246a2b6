"""SIGKILL at random moments under four writers: what was acknowledged is there, what was not is there wholly or not at all."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.client import Client, Lost, Refused
from tests.system.entries import iscc_id, unique_entry
from tests.system.lookup import all_graphs_built, engine_figures, find_wholly
from tests.system.model import Entry, without_simprints
from tests.system.server import Server, wait_until

INDEX = "works"
WRITERS = 4
ASSETS = 120  # of each writer
BATCH_MAX = 8
OUTDATED_KEPT = 2  # contents of an asset that must not match any more
BACKGROUND = ("segments_sealed", "segments_rewritten", "graphs_built")

State = dict[str, Entry | None]
"""ISCC-IDs and what is stored for them, None when nothing is."""


class Doubt(NamedTuple):
    """A request without an answer: what was stored before it, and what is if it was carried out."""

    before: State
    after: State


class Writer:
    """One client that writes assets of its own until the connection breaks, and remembers what it was told."""

    def __init__(self, number: int) -> None:
        self.rng = random.Random(number)
        self.ids = [iscc_id(number * ASSETS + at) for at in range(ASSETS)]
        self.known: State = dict.fromkeys(self.ids)
        self.outdated: dict[str, list[Entry]] = {number: [] for number in self.ids}
        self.doubt: Doubt | None = None
        self.acknowledged = 0

    def run(self, port: int) -> None:
        """Until the server is killed."""
        with Client(port) as client:
            while self.doubt is None:
                self._write(client)

    def learn(self, found: State) -> None:
        """What `found` says of the doubtful assets is known from now on."""
        self.settle(found)
        self.doubt = None

    def settle(self, after: State) -> None:
        for number, entry in after.items():
            before = self.known[number]
            if before is not None and before is not entry:
                self.outdated[number] = [*self.outdated[number], before][-OUTDATED_KEPT:]
            self.known[number] = entry

    def _write(self, client: Client) -> None:
        after = self._deletion() if self.rng.random() < 0.2 else self._addition()
        before = {number: self.known[number] for number in after}
        self.doubt = Doubt(before, after)
        try:
            self._send(client, after)
        except Lost:
            return
        except Refused:
            self.doubt = Doubt(before, before)
            return
        self.settle(after)
        self.doubt = None
        self.acknowledged += 1

    def _send(self, client: Client, after: State) -> None:
        entries = [entry for entry in after.values() if entry is not None]
        if entries:
            answer = client.add(INDEX, entries)
            expected = ["created" if self.known[entry["iscc_id"]] is None else "updated" for entry in entries]
            assert answer.status == 201, answer
            assert [result["status"] for result in answer.body] == expected
        else:
            (number,) = after
            assert client.delete(INDEX, number).status == (404 if self.known[number] is None else 204)

    def _deletion(self) -> State:
        return {self.rng.choice(self.ids): None}

    def _addition(self) -> State:
        return {number: unique_entry(self.rng, number) for number in self.rng.sample(self.ids, self.rng.randint(1, BATCH_MAX))}


class Siege:
    """A server that is killed again and again while four writers write, and looked at each time after it came back."""

    def __init__(self, server: Server, seed: int) -> None:
        self._server = server
        self._rng = random.Random(seed)
        self._writers = [Writer(number) for number in range(WRITERS)]
        self.background: Counter[str] = Counter()
        self.ready_seconds: list[float] = []
        with Client(server.port) as client:
            assert client.create_index(INDEX).status == 201

    def run(self, kills: int) -> None:
        for _ in range(kills):
            self._write_until_killed()
            self.ready_seconds.append(self._server.restart())
            with Client(self._server.port) as client:
                self._check(client)
        assert sum(writer.acknowledged for writer in self._writers) > 20 * kills

    def _write_until_killed(self) -> None:
        threads = [threading.Thread(target=writer.run, args=(self._server.port,)) for writer in self._writers]
        for thread in threads:
            thread.start()
        goal = sum(writer.acknowledged for writer in self._writers) + self._rng.randint(40, 160)
        wait_until(lambda: sum(writer.acknowledged for writer in self._writers) >= goal, 60, "writes")
        now = engine_figures(self._server.port)
        self.background.update({name: now[name] for name in BACKGROUND})
        threading.Event().wait(self._rng.random() * 0.05)  # the moment of the kill is random, nothing is waited for
        self._server.kill()
        for thread in threads:
            thread.join()

    def _check(self, client: Client) -> None:
        for writer in self._writers:
            assert writer.doubt is not None, "a writer ended by itself"
            found = {number: stored(client, number) for number in writer.doubt.after}
            before, after = as_stored(writer.doubt.before), as_stored(writer.doubt.after)
            assert found in (before, after), "a request was carried out in part"
            writer.learn(writer.doubt.after if found == after else writer.doubt.before)
            assert {number: stored(client, number) for number in writer.ids} == as_stored(writer.known)
        present = [entry for writer in self._writers for entry in writer.known.values() if entry is not None]
        outdated = [entry for writer in self._writers for entries in writer.outdated.values() for entry in entries]
        assert client.index(INDEX).body["assets"] == len(present)
        assert find_wholly(client, INDEX, present) == {entry["iscc_id"] for entry in present}
        assert find_wholly(client, INDEX, outdated) == set(), "outdated content still matches"


def stored(client: Client, number: str) -> Entry | None:
    answer = client.get(INDEX, number)
    assert answer.status in (200, 404), answer
    return answer.body if answer.status == 200 else None


def as_stored(state: State) -> State:
    """What is read back: all but the simprints."""
    return {number: entry and without_simprints(entry) for number, entry in state.items()}


EXACT = {"SEGMENT_CODES": 64}
GRAPHS = {"SEGMENT_CODES": 64, "EXACT_MAX_CODES": 0}


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """After each kill, during writes, sealing and rewriting, searches and reads give exactly what was acknowledged."""
    with Server(tmp_path / "data", **EXACT) as server:
        siege = Siege(server, 1)
        siege.run(kills=7)
    assert siege.background["segments_sealed"] > 0
    assert siege.background["segments_rewritten"] > 0
    assert max(siege.ready_seconds) < 10


def test_nothing_acknowledged_is_lost_while_graphs_are_built(tmp_path: Path) -> None:
    """The same when every segment gets a graph, so that kills hit half-built ones and searches go through finished ones."""
    with Server(tmp_path / "data", **GRAPHS) as server:
        siege = Siege(server, 2)
        siege.run(kills=3)


def test_a_graph_build_ends_with_its_parent(tmp_path: Path) -> None:
    """A killed service leaves no process behind that goes on writing into the directory, and the graphs are built after the restart."""
    with Server(tmp_path / "data", **GRAPHS) as server, Client(server.port) as client:
        client.create_index(INDEX)
        rng = random.Random(4)
        for _ in range(4):
            entries = [unique_entry(rng, iscc_id(number)) for number in range(ASSETS)]
            assert client.add(INDEX, entries).status == 201
        wait_until(lambda: bool(children(server.process.pid)), 60, "a graph build")
        builders = children(server.process.pid)
        client.close()
        server.kill()
        wait_until(lambda: not any(is_running(builder) for builder in builders), 10, "the builders to end")
        server.restart()
        wait_until(lambda: all_graphs_built(server.port), 120, "graphs of all segments")
        assert not list((tmp_path / "data" / "live" / "segments").glob("*.tmp"))
        assert find_wholly(client, INDEX, entries) == {entry["iscc_id"] for entry in entries}


@pytest.mark.soak
@pytest.mark.parametrize("settings", [EXACT, GRAPHS], ids=["exact", "graphs"])
def test_nothing_acknowledged_is_lost_in_fifty_kills(tmp_path: Path, settings: dict[str, object]) -> None:
    """The same at full size."""
    with Server(tmp_path / "data", **settings) as server:
        Siege(server, 3).run(kills=50)


def children(process: int) -> list[int]:
    """Process ids of the children of a process."""
    return [int(child) for task in Path(f"/proc/{process}/task").iterdir() for child in (task / "children").read_text().split()]


def is_running(process: int) -> bool:
    """False when it is gone, or dead and only not yet reaped."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in ("Z", "X")
