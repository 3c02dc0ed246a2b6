"""Parts that are switched off: their routes say so, and nothing of them is imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.api.isccs import iscc_id, simprint, units
from tests.system.client import metrics
from tests.system.server import Server, wait_until

WRAPPER = """
import os, sys
from service import serve
real = serve.leave
def leave(end):
    print(sorted(name for name in sys.modules))
    sys.stdout.flush()
    real(end)
serve.leave = leave
from service.cli import main
main(["serve"])
"""


def modules(directory: Path, **settings: object) -> set[str]:
    """What a service that was asked for everything has imported when it ends."""
    with Asked(directory, **settings) as server:
        for path in ("/", "/docs", "/openapi/openapi.json", "/metrics", "/status", "/snapshots"):
            httpx.get(f"{server.url}{path}")
        httpx.post(f"{server.url}/indexes", json={"name": "a"})
        httpx.post(f"{server.url}/indexes/a/assets", json=[{"iscc_id": iscc_id(1), "units": units(1)}])
        assert httpx.post(f"{server.url}/indexes/a/search", json={"iscc_id": iscc_id(1)}).status_code == 200
        assert server.stop() == 0
        (line,) = [line for line in server.log().splitlines() if line.startswith("['")]
        return set(ast.literal_eval(line))


class Asked(Server):
    """A service that prints its modules at the end."""

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", WRAPPER],
                cwd=self.directory.parent,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )


OFF: dict[str, tuple[dict[str, object], set[str]]] = {
    "DOCS": ({"DOCS": "no"}, {"service.api.docs", "service.api.openapi", "service.api.examples"}),
    "METRICS": ({"METRICS": "no"}, {"service.telemetry", "prometheus_client"}),
    "SIMPRINTS": ({"SIMPRINTS": "no"}, {"service.engine.simprints", "service.engine.chunks"}),
    "SNAPSHOTS": ({"SNAPSHOT_URL": "none"}, {"apscheduler", "boto3"}),
    "RATE_LIMIT": ({"RATE_LIMIT": ""}, {"service.api.ratelimit", "redis"}),
    "GRAPHS": ({"GRAPHS": "no", "EXACT_MAX_CODES": 0, "SEGMENT_CODES": 16}, {"usearch"}),
}


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    return modules(tmp_path_factory.mktemp("all") / "data", RATE_LIMIT="100/minute")


@pytest.mark.parametrize("name", OFF)
def test_off_means_not_imported(tmp_path: Path, everything: set[str], name: str) -> None:
    """What a switch saves is there without it, `boto3`, `redis` and `usearch` excepted: these come with what they are for."""
    settings, absent = OFF[name]
    assert absent - everything <= {"boto3", "redis", "usearch"}
    assert modules(tmp_path / "data", **settings) & absent == set()


def test_routes_of_what_is_off_say_so(tmp_path: Path) -> None:
    """404 with the setting, and everything else answers."""
    with Server(tmp_path / "data", DOCS="no", METRICS="no", SNAPSHOT_URL="none") as server:
        for path, setting in (
            ("/docs", "DOCS"),
            ("/playground", "DOCS"),
            ("/openapi/openapi.json", "DOCS"),
            ("/metrics", "METRICS"),
        ):
            answer = httpx.get(f"{server.url}{path}")
            assert (answer.status_code, answer.json()) == (404, {"detail": f"this is switched off here: ISCC_SEARCH_{setting} is no"})
        assert httpx.get(f"{server.url}/snapshots").json() == {"detail": "there are no snapshots: ISCC_SEARCH_SNAPSHOT_URL is none"}
        assert [httpx.get(f"{server.url}{path}").status_code for path in ("/", "/healthz", "/readyz", "/status")] == [200] * 4


def test_without_simprints_they_are_refused(tmp_path: Path) -> None:
    """In assets and in searches, by name; units work; those that are stored already stay, unsearched."""
    entry = {"iscc_id": iscc_id(1), "units": units(1), "simprints": {"X": [{"simprint": simprint(1), "offset": 0, "size": 1}]}}
    with Server(tmp_path / "data") as server:
        httpx.post(f"{server.url}/indexes", json={"name": "a"})
        assert httpx.post(f"{server.url}/indexes/a/assets", json=[entry, {**entry, "iscc_id": iscc_id(2)}]).status_code == 201
        assert len(httpx.post(f"{server.url}/indexes/a/search", json={"iscc_id": iscc_id(1)}).json()["chunk_matches"]) == 1
        assert server.stop() == 0
    text = "simprints are switched off here: ISCC_SEARCH_SIMPRINTS is no"
    with Server(tmp_path / "data", SIMPRINTS="no") as server:
        refused = httpx.post(f"{server.url}/indexes/a/assets", json=[entry])
        assert (refused.status_code, refused.json()["detail"][0]["msg"]) == (422, text)
        refused = httpx.post(f"{server.url}/indexes/a/search", json={"simprints": {"X": [simprint(1)]}})
        assert (refused.status_code, refused.json()["detail"][0]["msg"]) == (422, text)
        found = httpx.post(f"{server.url}/indexes/a/search", json={"iscc_id": iscc_id(1)}).json()
        assert (found["chunk_matches"], [match["iscc_id"] for match in found["global_matches"]]) == ([], [iscc_id(2)])
        assert httpx.delete(f"{server.url}/indexes/a/assets/{iscc_id(2)}").status_code == 204
        assert server.stop() == 0
    with Server(tmp_path / "data") as server:
        assert httpx.post(f"{server.url}/indexes/a/search", json={"simprints": {"X": [simprint(1)]}}).json()["chunk_matches"] != []


def test_without_graphs_large_types_are_scanned(tmp_path: Path) -> None:
    """Nothing is built, nothing waits to be built, everything is found."""
    with Server(tmp_path / "data", GRAPHS="no", EXACT_MAX_CODES=0, SEGMENT_CODES=16) as server:
        httpx.post(f"{server.url}/indexes", json={"name": "a"})
        entries = [{"iscc_id": iscc_id(number), "units": units(number)} for number in range(200)]
        assert httpx.post(f"{server.url}/indexes/a/assets", json=entries).status_code == 201
        wait_until(lambda: metrics(server.port)["tidepool_engine_segments"] > 0, 60, "segments")
        assert metrics(server.port)['tidepool_background_queue{work="graph"}'] == 0
        found = httpx.post(f"{server.url}/indexes/a/search", json={"units": units(7)}).json()["global_matches"]
        assert iscc_id(7) in [match["iscc_id"] for match in found]
