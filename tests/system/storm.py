"""Eight searchers and four writers at once, and what each of their answers has to be.

Some assets are never touched. Some are updated all the time between contents that all match one query: each search for it has to give one
whole content, not older than the last one acknowledged before the search and not newer than the last one sent before its answer. The rest
comes and goes, so that segments are sealed and rewritten, graphs are built and dropped, indexes made and deleted.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable

from tests.system.client import Answer, Client
from tests.system.entries import iscc_id, unique_entry
from tests.system.lookup import find_wholly
from tests.system.model import CONTENT, META, Entry, make_unit, text, without_simprints

INDEX = "works"
SEARCHERS = 8
STILL = 40
FAST = 12  # moving assets whose content is always in the tail
SLOW = 120  # moving assets, so many that the content of some is always on its way into a segment
PADDING = 31  # units of a long query that match nothing, before and between those that do
DISTANCES = {META: 0, CONTENT: 25}  # fewest bits of 256 between a moving asset and its query, for each of its units
STEPS = 20  # and how many more they can be: all of them match, and no unit ever hides that the other was missed
COMING = 1000
COMING_BATCH = 40
LOAD_PRIORITY = 10  # below the service and the probe: it is they who are measured


class Moving:
    """One asset whose content changes all the time. Its version says by how much its two units differ from the query."""

    def __init__(self, number: str, rng: random.Random) -> None:
        self.number = number
        self._bodies = {kind: rng.randbytes(32) for kind in DISTANCES}
        self.sent = 0
        self.acknowledged = 0

    def query(self, rng: random.Random) -> Entry:
        """Short, or long: then much happens between the begin of the search and its last look at the columns."""
        padding = PADDING if rng.random() < 0.3 else 0
        units = [make_unit(kind, 0, other) for kind, body in self._bodies.items() for other in (*random_bodies(rng, padding), body)]
        return {"units": [text(unit) for unit in units]}

    def content(self, version: int, rng: random.Random) -> Entry:
        units = [make_unit(kind, 0, flipped(rng, body, distance(kind, version))) for kind, body in self._bodies.items()]
        return {"iscc_id": self.number, "units": [text(unit) for unit in units]}

    def match(self, version: int) -> tuple[str, float, list[float]]:
        """What a search for the query has to give for that version."""
        near = [1 - distance(kind, version) / 256 for kind in DISTANCES]
        return self.number, sum(value**4 for value in near) / sum(near), near


class Storm:
    """Runs until `stop`. `wrong` collects what was not as it has to be; `done` counts."""

    def __init__(self, port: int) -> None:
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()
        self._port = port
        self._stopping = threading.Event()
        rng = random.Random(11)
        self._still = [unique_entry(rng, iscc_id(at)) for at in range(STILL)]
        self._moving = [Moving(iscc_id(STILL + at), rng) for at in range(FAST + SLOW)]
        with Client(port) as client:
            client.create_index(INDEX)
            client.add(INDEX, self._still + [moving.content(0, rng) for moving in self._moving])
        jobs: list[Callable[[Client, random.Random], None]] = [self._search] * SEARCHERS
        jobs += [self._move(self._moving[:FAST], together=0.5), self._move(self._moving[FAST:], together=0.0)]
        jobs += [self._come_and_go, self._make_and_delete]
        self._threads = [threading.Thread(target=self._run, args=(job, 1000 + at)) for at, job in enumerate(jobs)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self, job: Callable[[Client, random.Random], None], seed: int) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOAD_PRIORITY)
        rng = random.Random(seed)
        with Client(self._port) as client:
            while not self._stopping.is_set():
                job(client, rng)

    def _check(self, holds: bool, what: str, *facts: object) -> None:
        if not holds:
            self.wrong.append(f"{what}: {facts}")

    def _search(self, client: Client, rng: random.Random) -> None:
        kind = rng.random()
        if kind < 0.6:
            self._search_moving(client, rng.choice(self._moving), rng)
        elif kind < 0.85:
            entry = rng.choice(self._still)
            answer = client.search(INDEX, {"units": entry["units"]})
            self._check(matches(answer) == [(entry["iscc_id"], 1.0, [1.0] * 4)], "an asset that stands still", entry, answer)
        elif kind < 0.95:
            self._search_made(client, rng)
        else:
            entry = rng.choice(self._still)
            self._check(client.get(INDEX, entry["iscc_id"]).body == without_simprints(entry), "an asset that stands still is read", entry)
        self.done["searches"] += 1

    def _search_moving(self, client: Client, moving: Moving, rng: random.Random) -> None:
        oldest = moving.acknowledged
        answer = client.search(INDEX, moving.query(rng))
        newest = moving.sent
        possible = [rounded([moving.match(version)]) for version in range(oldest, newest + 1)]
        self._check(rounded(matches(answer)) in possible, "an asset that moves", oldest, newest, answer)

    def _search_made(self, client: Client, rng: random.Random) -> None:
        answer = client.search("made", {"units": rng.choice(self._still)["units"]})
        self._check(answer.status == 404 or len(matches(answer)) <= 1, "an index that comes and goes", answer)

    def _move(self, moving: list[Moving], together: float) -> Callable[[Client, random.Random], None]:
        """A writer that gives assets their next content: one by one, or with that probability all in one request."""

        def move(client: Client, rng: random.Random) -> None:
            chosen = moving if rng.random() < together else [rng.choice(moving)]
            for one in chosen:
                one.sent += 1
            answer = client.add(INDEX, [one.content(one.sent, rng) for one in chosen])
            self._check(answer.status == 201, "an update", answer)
            for one in chosen:
                one.acknowledged = one.sent
            self.done["updates"] += len(chosen)

        return move

    def _come_and_go(self, client: Client, rng: random.Random) -> None:
        """Adds, updates and deletes, and a look after each that nobody needs to wait for."""
        numbers = rng.sample(range(1000, 1000 + COMING), COMING_BATCH)
        entries = [unique_entry(rng, iscc_id(number)) for number in numbers]
        self._check(client.add(INDEX, entries).status == 201, "an add")
        found = find_wholly(client, INDEX, entries)
        self._check(found == {entry["iscc_id"] for entry in entries}, "what was just added", found)
        gone = entries[: COMING_BATCH // 4]
        for entry in gone:
            self._check(client.delete(INDEX, entry["iscc_id"]).status == 204, "a deletion", entry)
        self._check(find_wholly(client, INDEX, gone) == set(), "what was just deleted")
        self.done["comings"] += COMING_BATCH

    def _make_and_delete(self, client: Client, rng: random.Random) -> None:
        self._check(client.create_index("made").status == 201, "a new index")
        entries = [*self._still, *(unique_entry(rng, iscc_id(1000 + number)) for number in range(300))]
        self._check(client.add("made", entries).status == 201, "an add to a new index")
        self._check(find_wholly(client, "made", self._still) == {entry["iscc_id"] for entry in self._still}, "what a new index has")
        self._check(client.delete_index("made").status == 204, "the deletion of an index")
        self._check(client.search("made", {"units": self._still[0]["units"]}).status == 404, "a deleted index")
        self.done["indexes"] += 1


def distance(kind: int, version: int) -> int:
    """Bits between a unit of that version and the query."""
    return DISTANCES[kind] + version % STEPS


def flipped(rng: random.Random, body: bytes, bits: int) -> bytes:
    mask = sum(1 << bit for bit in rng.sample(range(256), bits))
    return (int.from_bytes(body, "big") ^ mask).to_bytes(32, "big")


def random_bodies(rng: random.Random, count: int) -> list[bytes]:
    return [rng.randbytes(32) for _ in range(count)]


def matches(answer: Answer) -> list[tuple[str, float, list[float]]]:
    """ISCC-ID, score and similarities of every match; nothing that equals anything when the search failed."""
    if answer.status != 200:
        return [(f"status {answer.status}", 0.0, [])]
    return [(match["iscc_id"], match["score"], list(match["types"].values())) for match in answer.body["global_matches"]]


def rounded(found: list[tuple[str, float, list[float]]]) -> list[tuple[str, float, list[float]]]:
    return [(number, round(score, 9), similarities) for number, score, similarities in found]
