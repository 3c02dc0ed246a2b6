"""`tidepool snapshot` as a process, beside a service that runs, and before and after one."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from snapshots.mark import read_mark
from tests.engine.test_mending import rot
from tests.project import ROOT
from tests.stores import moto_store, rclone_store
from tests.system.client import Client
from tests.system.estate import INDEX, REMOTE, SLOW_LOG, Estate, new_entry, require_entries, start_in_vain
from tests.system.frozen import thaw, wait_frozen
from tests.system.server import HOST, NOT_OURS, PREFIX, Server, free_port, wait_until

REFUSED, FENCED, UNREACHABLE, DAMAGED = 78, 5, 6, 4


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(estate: Estate, *arguments: object, environment: dict[str, str] | None = None, **settings: object) -> list[Any]:
    """The arguments for `subprocess.run`: a clean environment with the settings of the estate."""
    clean = {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_OURS)}
    ours = {"INDEX_URI": estate.data, "HOST": HOST, "SNAPSHOT_URL": estate.bucket.as_uri(), **settings}
    given = {PREFIX + name: str(value) for name, value in ours.items()}
    return [
        [sys.executable, "-m", "service", "snapshot", *map(str, arguments)],
        {**clean, "PYTHONPATH": str(ROOT), **given, **(environment or {})},
    ]


def run(estate: Estate, *arguments: object, environment: dict[str, str] | None = None, **settings: object) -> Ran:
    words, variables = command(estate, *arguments, environment=environment, **settings)
    done = subprocess.run(words, env=variables, cwd=estate.root, capture_output=True, text=True, timeout=120)
    return Ran(done.returncode, done.stdout, done.stderr)


def add(server: Server, *numbers: int) -> None:
    """Acknowledged when the bucket has them."""
    with Client(server.port, headers=REMOTE) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(number) for number in numbers]).status == 201


def test_beside_a_service(tmp_path: Path) -> None:
    """It makes the checkpoint and the drill that a command asks for; everything else looks at the bucket."""
    estate = Estate(tmp_path)
    with estate.server() as server:
        add(server, *range(20))
        made = run(estate, "create", "--json", PORT=server.port)
        assert (made.code, made.err) == (0, "")
        assert (made.json["generation"], made.json["kind"], made.json["counts"]["assets"]) == (2, "checkpoint", 20)
        text = run(estate, "create", PORT=server.port)
        assert re.search(r"^generation +3$", text.out, re.MULTILINE)
        with Client(server.port) as client:
            assert run(estate, "list", "--json").json == client.send("GET", "/snapshots").body
            assert run(estate, "show", 3, "--json").json == client.send("GET", "/snapshots/3").body
        drilled = run(estate, "verify", "--drill", "--json", "--url", server.url)
        assert (drilled.code, drilled.json["ok"], drilled.json["problems"]) == (0, True, [])
        assert drilled.json["queries"] > 0
        assert run(estate, "verify", "--full").code == 0
        assert run(estate, "prune", "--apply").code == 0
        assert run(estate, "gc", "--apply").code == 0
        assert run(estate, "pin", "kept").code == 0
        require_entries(server, [new_entry(number) for number in range(20)])
        assert server.stop() == 0


def test_a_drill_by_the_service_that_finds_damage(tmp_path: Path) -> None:
    """4, and the object that is wrong."""
    estate = Estate(tmp_path)
    with estate.server() as server:
        add(server, *range(20))
        assert run(estate, "create", PORT=server.port).code == 0
        blob = max((path for path in (estate.bucket / "v1" / "blobs").rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
        blob.write_bytes(b"x" * blob.stat().st_size)
        ran = run(estate, "verify", "--drill", PORT=server.port)
        assert ran.code == DAMAGED
        assert "THE COPY DIFFERS" in ran.out
        assert f"key=v1/blobs/{blob.parent.name}/{blob.name}" in ran.err


def test_a_checkpoint_by_the_service_that_finds_damage(tmp_path: Path) -> None:
    """A search file of the disk rotted: 4, and the file, also in the status. The service makes it again, and then the command works."""
    estate = Estate(tmp_path)
    segments = estate.data / "live" / "segments"
    with estate.server() as server, Client(server.port) as client:
        add(server, *range(20))
        wait_until(lambda: any(segments.glob("*.segment")), 30, "a search file")
        damaged = sorted(segments.glob("*.segment"))[0]
        rot(damaged)
        ran = run(estate, "create", PORT=server.port)
        assert ran.code == DAMAGED
        assert f"/snapshots answers 500: {damaged} rotted on this disk" in ran.err
        assert str(damaged) in client.send("GET", "/snapshots/status").body["checkpoint_trouble"]
        wait_until(lambda: not damaged.exists(), 30, "the file to be made again")
        assert run(estate, "create", PORT=server.port).code == 0
        assert client.send("GET", "/snapshots/status").body["checkpoint_trouble"] is None
        logged = [json.loads(line) for line in server.log().splitlines() if "segment file is missing or damaged" in line]
        assert [(each["level"], each["file"]) for each in logged] == [("warning", str(damaged))]
        require_entries(server, [new_entry(number) for number in range(20)])
    with estate.without_disk().server() as server:
        require_entries(server, [new_entry(number) for number in range(20)])


def test_where_the_service_is_and_its_key(tmp_path: Path) -> None:
    """Nobody at the address: 6, with the process that has the data. A wrong key: 78, with the setting."""
    estate = Estate(tmp_path)
    with estate.server(API_SECRET="key") as server:
        silent = run(estate, "create", PORT=free_port(), API_SECRET="key")
        assert silent.code == UNREACHABLE
        assert f"is in use by process {server.process.pid}" in silent.err
        assert "--url says where it is" in silent.err
        keyless = run(estate, "create", PORT=server.port)
        assert keyless.code == REFUSED
        assert "ISCC_SEARCH_API_SECRET holds the key of the service" in keyless.err
        everywhere = run(estate, "create", PORT=server.port, API_SECRET="key", HOST="0.0.0.0")
        assert everywhere.code == 0
        assert run(estate, "create", "--url", "localhost:1").code == REFUSED


def test_the_whole_way_back(tmp_path: Path) -> None:
    """Restored beside a service that goes on; served as a lineage of its own; refused for the bucket; made its truth when asked."""
    estate = Estate(tmp_path)
    target = tmp_path / "copy"
    with estate.server() as server:
        add(server, 1, 2)
        assert run(estate, "create", PORT=server.port).code == 0
        add(server, 3)
        add(server, 4)
        ran = run(estate, "restore", "--target", target, "--sequence", 3, "--json")
        assert (ran.code, ran.json["sequence"], ran.json["replayed"]) == (0, 3, 1)
        assert server.stop() == 0
    with Server(target, SNAPSHOT_URL="") as copy:
        require_entries(copy, [new_entry(number) for number in (1, 2, 3)])
        assert copy.stop() == 0
    first = tmp_path / "again"
    assert run(estate, "restore", "--target", first, "--sequence", 3).code == 0
    old, new = read_mark(estate.data / "live"), read_mark(first / "live")
    assert old is not None
    assert new is not None
    settings: dict[str, Any] = {"SNAPSHOT_URL": estate.bucket.as_uri()}
    code, words = start_in_vain(Server(first, **settings))
    assert (code, "they are not the same index" in words) == (REFUSED, True)
    adopted = Server(first, **settings)
    adopted.arguments = ["--adopt-local"]
    with adopted:
        require_entries(adopted, [new_entry(number) for number in (1, 2, 3)])
        assert adopted.stop() == 0
    listed = run(estate, "list", "--json").json
    assert listed[-1]["lineage"] == new.lineage
    assert start_in_vain(estate.server())[0] == REFUSED
    both = run(estate, "restore", "--target", tmp_path / "before", "--generation", 2)
    assert both.code == 0, "the lineage that was left stays readable"


def test_a_command_takes_over_and_the_service_keeps_what_it_had(tmp_path: Path) -> None:
    """A copy of a disk elsewhere makes a checkpoint: the service ends with 5, and `show` reads the rows that it could not ship."""
    estate = Estate(tmp_path / "one")
    with estate.server(**SLOW_LOG) as server:
        add(server, 1)
        assert server.stop() == 0
    other = estate.copy(tmp_path / "two")
    other.bucket = estate.bucket
    with estate.server(**SLOW_LOG) as server, Client(server.port) as client:
        add(server, 9)  # what comes now waits for the next shipment
        assert client.add(INDEX, [new_entry(2), new_entry(3)]).status == 201
        taken = run(other, "create", "--json")
        assert (taken.code, taken.json["counts"]["assets"]) == (0, 2)
        assert server.wait_exit() == FENCED
    wait_until(lambda: bool(list(estate.data.glob("*.fenced-*.log"))), 10, "the file")
    (kept,) = estate.data.glob("*.fenced-*.log")
    assert f"`tidepool snapshot show {kept}`" in server.log()
    shown = run(estate, "show", kept, "--json")
    assert shown.code == 0
    (row,) = shown.json["rows"]
    assert (row["kind"], row["index"], row["iscc_ids"]) == ("add", INDEX, [new_entry(2)["iscc_id"], new_entry(3)["iscc_id"]])


def test_a_checkpoint_by_a_service_that_was_fenced(tmp_path: Path) -> None:
    """Somebody took over while it was made: the command ends with 5 like the service, and says who has the bucket now."""
    estate = Estate(tmp_path / "one")
    with estate.server(**SLOW_LOG) as server:
        add(server, 1)
        assert server.stop() == 0
    other = estate.copy(tmp_path / "two")
    other.bucket = estate.bucket
    with estate.server(environment={"TIDEPOOL_FAILPOINTS": "publish.uploaded=stop"}) as server:
        words, variables = command(estate, "create", "--json", PORT=server.port)
        asking = subprocess.Popen(words, env=variables, cwd=estate.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            wait_frozen(server)
            assert run(other, "create").code == 0
            thaw(server)
            out, err = asking.communicate(timeout=60)
        finally:
            asking.kill()
        assert server.wait_exit() == FENCED
    assert (asking.returncode, json.loads(out)["code"]) == (FENCED, FENCED), err
    assert re.search(r"/snapshots answers 503: .*writer [0-9a-f]{32} on \S+ (claimed|owns) epoch 3", err), err


def test_init_allows_a_first_start_in_a_store(tmp_path: Path) -> None:
    """`doctor` finds nothing wrong with it, before and after."""
    estate = Estate(tmp_path)
    with moto_store() as store:
        url = store.url
        settings: dict[str, Any] = {"SNAPSHOT_URL": url, "environment": store.environment}
        assert start_in_vain(estate.server(**settings))[0] == REFUSED
        before = run(estate, "doctor", "--json", **settings)
        assert (before.code, before.json["condition"]["initialised"]) == (0, False)
        assert run(estate, "list", "--json", **settings).json == []
        assert run(estate, "init", **settings).code == 0
        with estate.server(**settings) as server:
            add(server, 1)
            assert run(estate, "create", PORT=server.port, **settings).code == 0
            assert (estate.data / "probe.json").exists()
            assert server.stop() == 0
        after = run(estate, "doctor", "--json", **settings).json["condition"]
        assert (after["initialised"], after["generation"], after["log"]["sequence"]) == (True, 2, 2)
        alone = Estate(tmp_path / "elsewhere")
        alone.root.mkdir()
        ran = run(alone, "restore", "--target", alone.data, "--bucket", url, environment=store.environment, SNAPSHOT_URL="none")
        assert ran.code == 0
        require_copy(alone.data)


def require_copy(directory: Path) -> None:
    with Server(directory, SNAPSHOT_URL="none") as server:
        require_entries(server, [new_entry(1)])


def test_a_store_that_ignores_conditions(tmp_path: Path) -> None:
    """Refused by `init`, by `doctor` and by a start, with 78; accepted when somebody insists, and the status says so."""
    estate = Estate(tmp_path)
    with rclone_store() as store:
        settings: dict[str, Any] = {"SNAPSHOT_URL": store.url, "environment": store.environment, "SNAPSHOT_MISSING": "create"}
        init = run(estate, "init", **settings)
        assert (init.code, init.out) == (REFUSED, "")
        assert "the store ignores If-None-Match" in init.err
        doctor = run(estate, "doctor", **settings)
        assert doctor.code == REFUSED
        assert re.search(r"^create +FAILS: ", doctor.out, re.MULTILINE)
        code, words = start_in_vain(estate.server(**settings))
        assert code == REFUSED
        assert "ISCC_SEARCH_SNAPSHOT_UNSAFE=yes accepts this one" in words
        with estate.server(**settings, SNAPSHOT_UNSAFE="yes") as server, Client(server.port) as client:
            assert "ignores If-None-Match" in client.send("GET", "/snapshots/status").body["unsafe_store"]
            assert "IS NOT SAFE" in server.log()
            assert not (estate.data / "probe.json").exists()


@pytest.mark.parametrize("arguments", [["verify", "--full", "--json"], ["create", "--json"], ["verify", "--drill", "--json"]])
def test_a_terminal_sees_how_far_it_is(tmp_path: Path, arguments: list[str]) -> None:
    """On stderr only: what a program reads on stdout is one document."""
    estate = Estate(tmp_path)
    with estate.server() as server:
        add(server, 1)
        assert server.stop() == 0
    words, variables = command(estate, *arguments)
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run(words, env=variables, cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True)
        drawn = os.read(ours, 65_536).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert json.loads(done.stdout)
    assert drawn.startswith("\r\x1b[K")
    assert drawn.endswith("\r\x1b[K")
