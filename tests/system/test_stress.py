"""Searches, updates, deletions, sealing, rewriting and graph building all at once: no answer is wrong and the probes always answer."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from tests.project import ROOT
from tests.system.client import Answer, Client
from tests.system.entries import Entries, iscc_id
from tests.system.lookup import engine_figures
from tests.system.server import Server
from tests.system.storm import INDEX, Storm

pytestmark = pytest.mark.timing

SETTINGS = {"SEGMENT_CODES": 128, "EXACT_MAX_CODES": 500}
PROBE_SECONDS_MAX = 0.1
CI_SECONDS = 15
FULL_SECONDS = 60
ASSETS = 3000
BATCH = 500
THREADS = 8
ROUNDS = 5


class Probe:
    """`tests.system.probe` as a process of its own. The figures are there after the exit."""

    def __init__(self, server: Server) -> None:
        self._command = [sys.executable, "-m", "tests.system.probe", str(server.port), str(server.process.pid)]
        self.seconds: dict[str, list[float]] = {}
        self.wrong: list[str] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        output, _ = self._process.communicate()
        self.seconds = json.loads(output)
        self.wrong = self.seconds.pop("wrong")  # type: ignore[assignment]  # the one member that is no list of numbers

    def describe(self) -> str:
        parts = [
            f"{name}: p50 {1000 * statistics.median(found):.1f} ms, max {1000 * max(found):.1f} ms" for name, found in self.seconds.items()
        ]
        return ", ".join(parts)


def test_nothing_is_wrong_under_stress(tmp_path: Path) -> None:
    """For 15 seconds every answer is one of those that are possible, and health and readiness answer within 100 ms."""
    stress(tmp_path / "data", CI_SECONDS)


@pytest.mark.soak
def test_nothing_is_wrong_under_long_stress(tmp_path: Path) -> None:
    """The same for a minute."""
    stress(tmp_path / "data", FULL_SECONDS)


def stress(directory: Path, seconds: float) -> None:
    with Server(directory, LOG_LEVEL="warning", **SETTINGS) as server:
        with Probe(server) as probe:
            storm = Storm(server.port)
            threading.Event().wait(seconds)  # the duration is the test
            storm.stop()
        engine = engine_figures(server.port)
        print(f"{seconds} s: {dict(storm.done)}, {probe.describe()}")  # noqa: T201 - the figures of a run by hand
        assert server.stop() == 0
    assert storm.wrong == []
    assert probe.wrong == []
    for name in ("segments_sealed", "segments_rewritten", "graphs_built", "keys_purged"):
        assert engine[name] > 0, name
    assert storm.done["searches"] > 50 * seconds
    assert storm.done["updates"] > 10 * seconds
    assert max(probe.seconds["unexplained"]) < PROBE_SECONDS_MAX, probe.describe()
    assert statistics.median(probe.seconds["/healthz"] + probe.seconds["/readyz"]) < PROBE_SECONDS_MAX / 10, probe.describe()


def test_a_full_read_lane_is_503(tmp_path: Path) -> None:
    """Searches that find no place are told to come again, and by which setting there are so few places; the others are answered rightly."""
    with Server(tmp_path / "data", READ_THREADS=1, READ_QUEUE=1) as server, Client(server.port) as client:
        client.create_index(INDEX)
        shared = Entries(1).query()
        for at in range(0, ASSETS, BATCH):
            client.add(INDEX, [{"iscc_id": iscc_id(number), **shared} for number in range(at, at + BATCH)])
        answers = at_once(server, lambda client, _: client.search(INDEX, shared, limit=3))
        found = [[match["iscc_id"] for match in answer.body["global_matches"]] for answer in answers if answer.status == 200]
        assert found
        assert all(ids == [iscc_id(0), iscc_id(1), iscc_id(2)] for ids in found)
        check_busy(answers, "ISCC_SEARCH_READ_QUEUE")
        assert client.send("GET", "/healthz").status == client.send("GET", "/readyz").status == 200


def test_a_full_write_lane_is_503(tmp_path: Path) -> None:
    """Writes that find no place are told to come again and nothing of them is stored; the others are stored wholly."""
    with Server(tmp_path / "data", WRITE_QUEUE=1) as server, Client(server.port) as client:
        client.create_index(INDEX)
        source = Entries(2)
        bodies = [[source.entry(iscc_id(thread * BATCH + at)) for at in range(BATCH)] for thread in range(THREADS)]
        answers = at_once(server, lambda client, thread: client.add(INDEX, bodies[thread]))
        check_busy(answers, "ISCC_SEARCH_WRITE_QUEUE")
        accepted = {result["iscc_id"] for answer in answers if answer.status == 201 for result in answer.body}
        assert client.index(INDEX).body["assets"] == len(accepted) > 0


def at_once(server: Server, ask: Callable[[Client, int], Answer]) -> list[Answer]:
    """The answers to requests that many clients send over and over at the same time."""
    answers: list[Answer] = []
    together = threading.Barrier(THREADS)

    def run(thread: int) -> None:
        with Client(server.port) as client:
            client.send("GET", "/healthz")
            together.wait()
            answers.extend(ask(client, thread) for _ in range(ROUNDS))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def check_busy(answers: list[Answer], setting: str) -> None:
    """Some found no place, and each of these answers says what to do; all others succeeded."""
    busy = [answer for answer in answers if answer.status == 503]
    assert busy
    assert {answer.status for answer in answers} <= {200, 201, 503}
    for answer in busy:
        assert int(answer.headers["retry-after"]) > 0
        assert setting in answer.body["detail"]
        assert "again" in answer.body["detail"]
