"""The life of the process: from the command to the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from service import __version__
from service.api.errors import NotReady
from service.boot.ended import Failures
from service.boot.exits import EXIT_DAMAGED, End, exit_code
from service.boot.life import Boot
from service.engine.errors import Busy
from service.engine.requests import CreateIndex
from service.telemetry import Metrics
from snapshots.errors import Fenced, LocalFault
from tests.api.inside import opened, settings
from tests.api.isccs import iscc_id, units
from tests.project import ROOT
from tests.system.server import HOST, Server, wait_until

COMMAND = [sys.executable, "-m", "service"]


def failed(server: Server) -> tuple[int, str]:
    """Exit code and last line of a service that could not start."""
    server.start()
    try:
        code = server.wait_exit()
    finally:
        server.end()
    return code, server.log().strip().splitlines()[-1]


def test_states_until_ready_and_back(tmp_path: Path) -> None:
    """Requests are refused before, answered while ready and while draining; closing frees the directory."""

    async def run() -> None:
        boot = Boot(settings(tmp_path / "data"), Metrics())
        assert (boot.state.name, boot.state.serves) == ("opening", False)
        with pytest.raises(NotReady, match="opening"):
            boot.write(CreateIndex("a"), 1)
        assert boot.start(30) is None
        await asyncio.to_thread(wait_until, lambda: boot.state.name == "ready", 30, "ready")
        assert await boot.write(CreateIndex("a"), 1) is None
        boot.drain()
        assert (boot.state.name, boot.state.serves) == ("draining", True)
        assert [info.name for info in await boot.read(lambda engine: engine.indexes())] == ["a"]
        assert await asyncio.to_thread(boot.close, 30)
        async with opened(tmp_path / "data") as (again, _):
            assert [info.name for info in await again.read(lambda engine: engine.indexes())] == ["a"]

    asyncio.run(run())


def test_a_damaged_directory_is_told_before_anything_listens(tmp_path: Path) -> None:
    """An empty LMDB file beside others is damage: code 78, and the file is named."""
    with Server(tmp_path / "data") as server:
        assert server.stop() == 0
    (tmp_path / "data" / "live" / "data.mdb").write_bytes(b"")
    code, line = failed(Server(tmp_path / "data", SNAPSHOT_URL="none"))
    assert code == EXIT_DAMAGED
    assert line.startswith(f"tidepool: {tmp_path / 'data' / 'live' / 'data.mdb'} is empty; ")


def test_a_directory_of_the_reference_is_refused_untouched(tmp_path: Path) -> None:
    """Data of iscc-search stays as it is; the message says how to move it."""
    old = tmp_path / "data" / "photos" / "index.lmdb"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"theirs")
    code, line = failed(Server(tmp_path / "data"))
    assert code == EXIT_DAMAGED
    assert "was written by iscc-search (indexes: photos)" in line
    assert "index add" in line
    assert sorted(path.relative_to(tmp_path / "data") for path in (tmp_path / "data").rglob("*")) == [
        Path("photos"),
        Path("photos/index.lmdb"),
    ]


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """One line that names the directory and the reason."""
    (tmp_path / "file").write_text("in the way")
    code, line = failed(Server(tmp_path / "data", INDEX_URI=tmp_path / "file" / "data"))
    assert (code, line) == (1, f"tidepool: the data directory {tmp_path / 'file' / 'data'} cannot be used: Not a directory")


def test_a_port_in_use(tmp_path: Path) -> None:
    """One line that names the place and the settings; the data directory is free again."""
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        code, line = failed(Server(tmp_path / "data", PORT=port))
    advice = "stop the other process, or set ISCC_SEARCH_HOST and ISCC_SEARCH_PORT to a free place"
    assert (code, line) == (1, f"tidepool: cannot listen on {HOST}:{port}: Address already in use; {advice}")


def test_all_wrong_settings_are_told_at_once(tmp_path: Path) -> None:
    """Code 2, one line for each variable."""
    server = Server(tmp_path / "data", WORKERS=4, MAX_LIMIT="many")
    assert failed(server)[0] == 2
    lines = server.log().splitlines()
    assert [line.partition("=")[0] for line in lines] == ["tidepool: ISCC_SEARCH_WORKERS", "tidepool: ISCC_SEARCH_MAX_LIMIT"]


def test_an_open_address_without_a_secret_is_a_loud_warning(tmp_path: Path) -> None:
    """It is told at the start, and only then."""
    with Server(tmp_path / "open", HOST="0.0.0.0") as server:
        assert "OPEN TO THE NETWORK WITHOUT A KEY" in server.log()
    with Server(tmp_path / "guarded", HOST="0.0.0.0", API_SECRET="key") as server:
        assert "OPEN TO THE NETWORK" not in server.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_code_0(tmp_path: Path, number: signal.Signals) -> None:
    """What was acknowledged is there afterwards."""
    with Server(tmp_path / "data") as server:
        httpx.post(f"{server.url}/indexes", json={"name": "a"})
        server.process.send_signal(number)
        assert server.wait_exit(30) == 0
        server.restart()
        assert [found["name"] for found in httpx.get(f"{server.url}/indexes").json()] == ["a"]


def test_a_request_that_was_accepted_is_answered(tmp_path: Path) -> None:
    """SIGTERM in the middle of a body: the rest may come, the answer is given, nobody new is let in; a second signal changes nothing."""
    with Server(tmp_path / "data") as server:
        httpx.post(f"{server.url}/indexes", json={"name": "a"})
        body = json.dumps([{"iscc_id": iscc_id(1), "units": units(1)}]).encode()
        connection = http.client.HTTPConnection(HOST, server.port, timeout=30)
        connection.putrequest("POST", "/indexes/a/assets")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body[:10])
        wait_until(lambda: "tidepool_requests_in_flight 2.0" in httpx.get(f"{server.url}/metrics").text, 10, "the request to begin")
        server.terminate()
        wait_until(lambda: not listens(server.port), 10, "the port to close")
        server.terminate()
        connection.send(body[10:])
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())) == (201, [{"iscc_id": iscc_id(1), "status": "created"}])
        assert server.wait_exit(30) == 0


def test_a_client_that_never_finishes_costs_only_its_own_answer(tmp_path: Path) -> None:
    """The drain is bounded: code 0 within the budget, whatever a client does."""
    with Server(tmp_path / "data", DRAIN_SECONDS=2) as server:
        httpx.post(f"{server.url}/indexes", json={"name": "a"})
        with socket.create_connection((HOST, server.port)) as stuck:
            head = "POST /indexes/a/assets HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n["
            stuck.sendall(head.encode())
            wait_until(lambda: "tidepool_requests_in_flight 2.0" in httpx.get(f"{server.url}/metrics").text, 10, "the request to begin")
            server.terminate()
            assert server.wait_exit(10) == 0


def test_every_request_has_an_id_in_answer_and_log(tmp_path: Path) -> None:
    """A safe id of the caller is taken, any other replaced; the log has one JSON line for each request, without what was sent."""
    with Server(tmp_path / "data") as server:
        mine = httpx.get(f"{server.url}/indexes/private", headers={"x-request-id": "caller-1"}).headers["x-request-id"]
        unsafe = httpx.get(f"{server.url}/indexes", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
        assert mine == "caller-1"
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", unsafe)
        lines = [json.loads(line) for line in server.log().splitlines()]
    found = next(line for line in lines if line.get("request_id") == "caller-1")
    assert found["ms"] > 0
    assert {name: found[name] for name in ("level", "message", "method", "route", "status")} == {
        "level": "info",
        "message": "request",
        "method": "GET",
        "route": "/indexes/{name}",
        "status": 404,
    }
    assert "private" not in server.log()


def test_verify_and_version(tmp_path: Path) -> None:
    """A whole directory has no problems; a damaged one ends with code 4 and says what is wrong; a served one with code 1."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=ROOT, check=False)

    assert run("--version").stdout == f"tidepool, version {__version__}\n"
    with Server(tmp_path / "data") as server:
        busy = run("verify", str(tmp_path / "data"))
        assert busy.returncode == 1
        assert "is in use by process" in busy.stderr
        assert server.stop() == 0
    whole = run("verify", str(tmp_path / "data"))
    assert (whole.returncode, whole.stdout) == (0, "no problems found\n")
    with (tmp_path / "data" / "live" / "data.mdb").open("r+b") as file:
        file.truncate(4096)
    damaged = run("verify", str(tmp_path / "data"))
    assert damaged.returncode == 4
    assert "data.mdb" in damaged.stderr


def listens(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def test_stopping_never_takes_longer_than_its_budget() -> None:
    """Whatever hangs, the process ends, and says that it was cut short."""
    script = "import threading; from service.serve import limit_end; limit_end(0.05); threading.Event().wait(60)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert (
        done.stderr
        == "tidepool: stopping took longer than 0.05 seconds and was cut short; everything that was acknowledged is on this disk\n"
    )


def test_a_defect_behind_the_start_ends_the_process(tmp_path: Path) -> None:
    """Threads run, the directory is open, and then the application cannot be made: one line says why, the code is 1, and nothing hangs."""
    script = """
import sys
import threading
from pathlib import Path
from service import serve
from tests.api.inside import settings
def broken(*_):
    raise RuntimeError("a defect")
serve.create_app = broken
serve.serve(settings(Path(sys.argv[1])))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "data"], capture_output=True, text=True, cwd=ROOT, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "tidepool: unexpected RuntimeError while serving: a defect"


def test_two_threads_that_fail_leave_one_note(tmp_path: Path) -> None:
    """A process that is fenced: its shipper and its write lane see it at the same moment."""
    together, asked = threading.Barrier(2), []

    def clock() -> float:
        asked.append(1)
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(0.5)  # what both must not reach
        return 1.0

    boot = Boot(settings(tmp_path), Metrics())
    boot._failures = Failures(tmp_path, clock)
    error = Fenced("has a new owner")
    lane = Busy("nothing was written")
    lane.__cause__ = error
    threads = [threading.Thread(target=boot._fail, args=(End(exit_code(error), str(error)), error))]
    threads += [threading.Thread(target=boot._stop_writing, args=(lane,))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    last = Failures(tmp_path).last
    assert last is not None
    assert (last.code, last.starts, len(asked)) == (5, 1, 1)
    assert boot.state.name == "failed"


def test_a_disk_that_fails_is_not_written_to(tmp_path: Path) -> None:
    """A write under it may hang, and would hold up the end."""
    boot = Boot(settings(tmp_path), Metrics())
    boot._failures = Failures(tmp_path)
    lane = Busy("nothing was written")
    lane.__cause__ = LocalFault("cannot use the disk")
    boot._stop_writing(lane)
    assert (boot.end, boot._failures.last) == (End(EXIT_DAMAGED, "nothing was written"), None)
