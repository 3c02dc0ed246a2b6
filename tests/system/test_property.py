"""Random sequences of everything a client and an operator can do, against the model: the same answers, scores to 1e-9."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.system.client import Answer, Client
from tests.system.entries import LENGTHS, Entries, iscc_id
from tests.system.lookup import engine_figures
from tests.system.model import ChunkMatch, Entry, Match, Model, raw
from tests.system.server import Server, wait_until

NAMES = ("a", "b2", "photos")
NUMBERS = 60
SCORE_TOLERANCE = 1e-9
GRAPH_SECONDS = 120.0
LIMITS = (1, 2, 5, 20, 100, 1000)
EVERYTHING = 1000

BACKGROUND = ("segments_sealed", "segments_rewritten", "keys_purged", "graphs_built")

EXACT = {"SEGMENT_CODES": 16}
GRAPHS = {"SEGMENT_CODES": 16, "EXACT_MAX_CODES": 0}
"""Every segment gets a graph. So small a graph finds all its codes, so the model holds here too."""


class Walk:
    """One random sequence against one server. Every answer is compared with the model."""

    def __init__(self, server: Server, seed: int, *, graphs: bool) -> None:
        self._server = server
        self._client = Client(server.port)
        self._model = Model()
        self._entries = Entries(seed, (8, 32) if graphs else LENGTHS)
        self._rng = random.Random(seed + 1)
        self.done: Counter[str] = Counter()
        """What the engine did in the background, added up over all processes."""
        self._steps: list[tuple[float, Callable[[], None]]] = [
            (40, self._add),
            (14, self._delete),
            (3, self._create_index),
            (0.3 if graphs else 1, self._delete_index),
            (30, self._search),
            (20, self._search_chunks),
            (8, self._search_by_id),
            (8, self._get),
            (1, self._restart),
            (1, self._kill),
            (8 * graphs, self._wait_for_graphs),
        ]

    def run(self, steps: int) -> None:
        """`steps` random steps, then both ways to start again and a look at everything."""
        for name in NAMES[:2]:
            self._expect(self._client.create_index(name), self._model.create_index(name))
        weights, actions = zip(*self._steps, strict=True)
        for action in self._rng.choices(actions, weights, k=steps):
            action()
        for action in (self._kill, self._look_at_everything, self._restart, self._look_at_everything):
            action()
        self._leave()

    def _name(self) -> str:
        return self._rng.choice(NAMES)

    def _number(self) -> str:
        """Few numbers, so that most adds are updates; now and then the wrong realm."""
        return iscc_id(self._rng.randrange(NUMBERS), int(self._rng.random() < 0.02))

    def _add(self) -> None:
        name = self._name()
        entries = [self._entries.entry(self._number()) for _ in range(self._rng.choice((0, 1, 1, 2, 5, 30)))]
        answer = self._client.add(name, entries)
        status, statuses = self._model.add(name, entries)
        self._expect(answer, status)
        if status == 201:
            assert answer.body == [{"iscc_id": e["iscc_id"], "status": s} for e, s in zip(entries, statuses, strict=True)]

    def _delete(self) -> None:
        name, number = self._name(), self._number()
        self._expect(self._client.delete(name, number), self._model.delete(name, number))

    def _create_index(self) -> None:
        name = self._name()
        self._expect(self._client.create_index(name), self._model.create_index(name))

    def _delete_index(self) -> None:
        name = self._name()
        self._expect(self._client.delete_index(name), self._model.delete_index(name))

    def _search(self) -> None:
        self._compare(self._name(), self._entries.query())

    def _search_chunks(self) -> None:
        self._compare(self._name(), self._entries.chunk_query())

    def _search_by_id(self) -> None:
        self._compare(self._name(), {"iscc_id": self._number()})

    def _get(self) -> None:
        self._get_one(self._name(), self._number())

    def _get_one(self, name: str, number: str) -> None:
        status, entry = self._model.get(name, number)
        answer = self._client.get(name, number)
        self._expect(answer, status)
        assert entry is None or answer.body == entry

    def _restart(self) -> None:
        self._leave()
        assert self._server.stop() == 0
        self._server.restart()

    def _kill(self) -> None:
        self._leave()
        self._server.kill()
        self._server.restart()

    def _wait_for_graphs(self) -> None:
        """Until every segment has a graph, so that the searches that follow go through graphs."""

        def built() -> bool:
            now = engine_figures(self._server.port)
            return now["graph_rows"] == now["segment_rows"]

        wait_until(built, GRAPH_SECONDS, "graphs of all segments")
        self._client.close()  # the service closes connections that were idle for long

    def _leave(self) -> None:
        self._client.close()
        now = engine_figures(self._server.port)
        self.done.update({name: now[name] for name in BACKGROUND})

    def _look_at_everything(self) -> None:
        for name in NAMES:
            for number in range(NUMBERS):
                self._get_one(name, iscc_id(number))
            for _ in range(20):
                self._compare(name, self._entries.query())
                self._compare(name, self._entries.chunk_query())
        assert [index["name"] for index in self._client.send("GET", "/indexes").body] == sorted(self._model.indexes)
        for name, index in self._model.indexes.items():
            assert self._client.index(name).body["assets"] == len(index.assets)

    def _compare(self, name: str, query: Entry) -> None:
        limit = self._rng.choice(LIMITS)
        status, expected = self._model.search(name, query, limit)
        answer = self._client.search(name, query, limit)
        self._expect(answer, status)
        if status == 200:
            assert _simplified(answer) == [_expected(match) for match in expected], f"{name} {query} limit={limit}"
            _check_order(answer)
            _check_chunks(answer, self._model.search_chunks(name, query, EVERYTHING), limit, f"{name} {query} limit={limit}")

    def _expect(self, answer: Answer, status: int) -> None:
        assert answer.status == status, f"{answer} expected {status}"


def _simplified(answer: Answer) -> list[object]:
    return [(match["iscc_id"], match["score"], match["types"], match["metadata"]) for match in answer.body["global_matches"]]


def _expected(match: Match) -> object:
    """Compares equal to what the service may answer."""
    types = {name: pytest.approx(value, abs=SCORE_TOLERANCE) for name, value in match.types.items()}
    return match.iscc_id, pytest.approx(match.score, abs=SCORE_TOLERANCE), types, match.metadata


def _simplified_chunks(answer: Answer) -> list[object]:
    return [
        (match["iscc_id"], match["score"], {name: _simplified_type(found) for name, found in match["types"].items()})
        for match in answer.body["chunk_matches"]
    ]


def _simplified_type(found: Entry) -> object:
    places = [(c["query"], c["match"], c["score"], c["freq"], c["offset"], c["size"]) for c in found["chunks"]]
    return found["score"], found["queried"], found["matches"], places


def _check_chunks(answer: Answer, expected: Sequence[ChunkMatch], limit: int, asked: str) -> None:
    """The best of them, each as expected, in the order of their scores. Sums of logarithms round in one way here and in another there: of
    two that are equally good in exact arithmetic either may be the better one."""
    found = _simplified_chunks(answer)
    of_id = {match.iscc_id: _expected_chunks(match) for match in expected}
    order = [(-match["score"], raw(match["iscc_id"])) for match in answer.body["chunk_matches"]]
    assert len({iscc_id for _, iscc_id in order}) == len(found) == min(limit, len(expected)), asked
    assert found == [of_id.get(match["iscc_id"]) for match in answer.body["chunk_matches"]], asked
    assert order == sorted(order), asked
    left = [match.score for match in expected if raw(match.iscc_id) not in {iscc_id for _, iscc_id in order}]
    assert not left or max(left) <= -order[-1][0] + SCORE_TOLERANCE, asked


def _expected_chunks(match: ChunkMatch) -> object:
    types = {
        name: (pytest.approx(score, abs=SCORE_TOLERANCE), queried, len(chunks), [tuple(chunk) for chunk in chunks])
        for name, (score, queried, chunks) in match.types.items()
    }
    return match.iscc_id, pytest.approx(match.score, abs=SCORE_TOLERANCE), types


def _check_order(answer: Answer) -> None:
    order = [(-match["score"], raw(match["iscc_id"])) for match in answer.body["global_matches"]]
    assert order == sorted(order)


def test_every_answer_is_that_of_the_model(tmp_path: Path) -> None:
    """Adds, updates, deletes, index creation and deletion, restarts and kills leave exactly what the model says."""
    with Server(tmp_path / "data", **EXACT) as server:
        walk = Walk(server, 1, graphs=False)
        walk.run(steps=500)
    assert walk.done["segments_sealed"] > 3
    assert walk.done["segments_rewritten"] > 3
    assert walk.done["keys_purged"] > 0


def test_graphs_give_the_answers_of_the_model(tmp_path: Path) -> None:
    """The same through graphs that are built, dropped with their segments and lost with killed processes all the time."""
    with Server(tmp_path / "data", **GRAPHS) as server:
        walk = Walk(server, 2, graphs=True)
        walk.run(steps=200)
    assert walk.done["graphs_built"] > 10


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 120))
def test_every_answer_is_that_of_the_model_at_length(tmp_path: Path, seed: int) -> None:
    """The same for many seeds and longer sequences, half of them with graphs."""
    graphs = bool(seed % 2)
    with Server(tmp_path / "data", **(GRAPHS if graphs else EXACT)) as server:
        Walk(server, seed, graphs=graphs).run(steps=1_500 if graphs else 5_000)
