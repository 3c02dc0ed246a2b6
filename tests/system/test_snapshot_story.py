"""The story of the README: the disk is lost, the answers are the same. And what a stop and a restore look like from outside."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.project import ROOT, read
from tests.stores import CEPH_MISSING, ceph_store, faulty_store, moto_store
from tests.stores.faulty import Request
from tests.system.client import Client, Lost, Refused
from tests.system.entries import iscc_id, unique_entry
from tests.system.estate import INDEX, REMOTE, Estate, checkpoint, is_acknowledged, new_entry, require_entries, require_sound
from tests.system.faulty_proxy import Counted
from tests.system.server import NOT_OURS, free_port, wait_until

STORY = re.compile(r"^```sh\n(export ISCC_SEARCH_INDEX_URI=\$PWD/story.*?)^```$", re.MULTILINE | re.DOTALL)
TOLD = "8001"
PASTE_SECONDS = 180.0  # twice the probe of a store in Python, on a busy machine


def run_story(directory: Path, paste: str, environment: Mapping[str, str]) -> str:
    """What a shell prints in which it is pasted, where the clone has its environment."""
    tidepool = directory / ".venv" / "bin" / "tidepool"
    tidepool.parent.mkdir(parents=True)
    tidepool.write_text(f'#!/bin/sh\nexec {sys.executable} -m service "$@"\n')
    tidepool.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_OURS)}
    shell = subprocess.Popen(
        ["bash", "-c", f"{paste.replace(TOLD, str(free_port()))}\nwait"],
        cwd=directory,
        env={**clean, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        return shell.communicate(timeout=PASTE_SECONDS)[0].decode()
    except subprocess.TimeoutExpired:
        pytest.fail(f"the paste does not end: {(directory / 'story.log').read_text('utf-8', 'replace')[-3000:]}")
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)


def told(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith(("{", "["))]


def test_the_story_of_the_readme(tmp_path: Path) -> None:
    """Pasted into a shell: after `kill -9` and without `live` the search is answered as before."""
    found = STORY.search(read("README.md"))
    assert found is not None
    output = told(run_story(tmp_path, found[1], {}))
    assert len(output) == 4, output
    assert '"iscc_id":"ISCC:MAIAAAAAAAAAAAAB","status":"created"' in output[1]
    assert '"global_matches":[{"iscc_id":"ISCC:MAIAAAAAAAAAAAAB","score":1.0' in output[2]
    assert output[3] == output[2]


def test_the_story_with_a_store(tmp_path: Path) -> None:
    """The same when the whole data directory is deleted, with two more settings."""
    found = STORY.search(read("README.md"))
    assert found is not None
    assert "rm -r story/live" in found[1]
    with moto_store() as store:
        ours = {"ISCC_SEARCH_SNAPSHOT_URL": store.url, "ISCC_SEARCH_SNAPSHOT_MISSING": "create"}
        assert all(name in read("README.md") for name in ours)
        output = told(run_story(tmp_path, found[1].replace("rm -r story/live", "rm -r story"), {**store.environment, **ours}))
    assert len(output) == 4, output
    assert "ISCC:MAIAAAAAAAAAAAAB" in output[2]
    assert output[3] == output[2]


@pytest.mark.skipif(CEPH_MISSING, reason="ceph-mon, ceph-osd and radosgw are not installed")
def test_a_disk_is_lost_with_a_real_store(tmp_path: Path) -> None:
    """On Ceph's gateway: a first start, a checkpoint, `kill -9`, an empty disk, and a second owner."""
    estate = Estate(tmp_path)
    with ceph_store() as store:
        settings = {"SNAPSHOT_URL": store.url, "SNAPSHOT_MISSING": "create", "environment": store.environment}
        entries = [new_entry(number) for number in range(20)]
        with estate.server(**settings) as server, Client(server.port, headers=REMOTE) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, entries[:10]).status == 201
            checkpoint(client)
            assert client.add(INDEX, entries[10:]).status == 201
            client.close()
            server.kill()
            estate.without_disk()
            server.restart()
            require_entries(server, entries)
            with Estate(tmp_path / "second").server(**settings) as second:
                require_entries(second, entries)
                assert not is_acknowledged(server, new_entry(99), REMOTE)
                assert server.wait_exit() == 5
                require_entries(second, entries)


def test_a_stop_ships_the_rest(tmp_path: Path) -> None:
    """SIGTERM while nothing but the first write was shipped: the process ends with 0, and an empty disk gets everything."""
    estate = Estate(tmp_path)
    rng = random.Random(2)
    entries = [unique_entry(rng, iscc_id(at)) for at in range(50)]
    with estate.server(LOG_INTERVAL=60) as server, Client(server.port) as client:
        client.create_index(INDEX)
        for entry in entries:
            assert client.add(INDEX, [entry]).status == 201
        assert client.send("GET", "/snapshots/status").body["lag_rows"] > len(entries) / 2
        client.close()
        assert server.stop() == 0
    require_sound(estate.prefix)
    with estate.without_disk().server() as server:
        require_entries(server, entries)


def test_a_restore_tells_how_far_it_is(tmp_path: Path) -> None:
    """While files are fetched the probes answer: alive, not ready, with phase and bytes; data routes say when to come back."""
    estate = Estate(tmp_path)
    gate = threading.Event()
    gate.set()

    def hold(request: Request) -> None:
        if request.method == "GET" and "/blobs/" in request.path:
            assert gate.wait(60)

    with moto_store() as behind, faulty_store(behind) as faulty:
        Counted(faulty, hold)
        url = behind.url
        estate.trust(url)
        settings = {"SNAPSHOT_URL": url, "SNAPSHOT_MISSING": "create", "environment": faulty.store.environment}
        entries = [new_entry(number) for number in range(20)]
        with estate.server(**settings) as server, Client(server.port, headers=REMOTE) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, entries).status == 201
            size = checkpoint(client)["bytes"]
            server.kill()
        gate.clear()
        server = estate.without_live().server(**settings)
        server.start()
        try:
            with Client(server.port) as client:
                wait_until(lambda: phase(client) == "fetching", 60, "the restore to begin")
                answer = client.send("GET", "/readyz")
                assert answer.status == 503
                assert (answer.body["status"], answer.body["state"]) == ("not_ready", "restoring")
                assert answer.body["bytes_total"] == size
                assert 0 <= answer.body["bytes_done"] < size
                assert int(answer.headers["retry-after"]) > 0
                assert client.send("GET", "/healthz").status == 200
                data = client.search(INDEX, {"units": entries[0]["units"]})
                assert data.status == 503
                assert int(data.headers["retry-after"]) > 0
                assert "its state is restoring" in data.body["detail"]
                assert client.add(INDEX, entries[:1]).status == 503
                gate.set()
            server.wait_ready()
            require_entries(server, entries)
        finally:
            gate.set()
            server.end()


def phase(client: Client) -> str:
    try:
        return str(client.send("GET", "/readyz").body.get("phase", ""))
    except (Lost, Refused):
        return ""
