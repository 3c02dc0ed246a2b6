"""An acknowledgement comes after the data is on the disk: shown by the system calls of one write, and by making them fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.client import Client, Entry, Lost
from tests.system.entries import Entries, iscc_id
from tests.system.lookup import engine_figures
from tests.system.model import without_simprints
from tests.system.server import Server, wait_until
from tests.system.strace import Call, Strace

# In CI, where a skip is a failure, the tool is there.
pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

INDEX = "works"
EXIT_FATAL = 70
READS = "read,readv,recvfrom,recvmsg"
WRITES = "write,writev,sendto,sendmsg,pwrite64,pwritev,pwritev2"
SYNCS = "fsync,fdatasync,msync,sync_file_range,rename,renameat,renameat2"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "data", SEGMENT_CODES=16) as server:
        with Client(server.port) as client:
            assert client.create_index(INDEX).status == 201
            assert client.add(INDEX, [entry(0)]).status == 201
        yield server


def test_the_answer_comes_after_the_sync(server: Server, tmp_path: Path) -> None:
    """Body read, pages written, fdatasync of data.mdb done, header written through a synchronous descriptor, and only then the answer."""
    with (
        Client(server.port) as client,
        Strace(server.process.pid, tmp_path / "trace", "-e", f"trace={READS},{WRITES},{SYNCS}") as trace,
    ):
        assert client.add(INDEX, [entry(1)]).status == 201
        assert client.send("GET", "/healthz").status == 200  # by then the tracer has seen the call of the first answer end
    calls = trace.calls()
    arrived = only(calls, "recvfrom", iscc_id(1))
    answered = only(calls, "writev", "HTTP/1.1 201")
    *pages, header = [call for call in calls if "/live/data.mdb>" in call.text and call.name in WRITES.split(",")]
    synced = only(calls, "fdatasync", "/live/data.mdb>")
    assert synced.text.endswith(" = 0")
    assert pages
    assert all(arrived.end < page.begin <= page.end < synced.begin for page in pages)
    assert synced.end < header.begin <= header.end < answered.begin
    assert is_synchronous(server.process.pid, header.descriptor)


def test_a_segment_is_on_the_disk_before_its_name_is(server: Server, tmp_path: Path) -> None:
    """File written and synced, renamed, directory synced, and only then the transaction that names it."""
    with Client(server.port) as client, Strace(server.process.pid, tmp_path / "trace", "-e", f"trace={SYNCS}") as trace:
        assert client.add(INDEX, [entry(number) for number in range(2, 60)]).status == 201
        wait_until(lambda: engine_figures(server.port)["segments_sealed"] > 0, 60, "a segment to be sealed")
    calls = trace.calls()
    named = next(call for call in calls if call.name.startswith("rename") and ".segment.tmp" in call.text)
    name = named.text.split('"')[1].rpartition("/")[2]
    file_synced = only(calls, "fsync", name)
    directory_synced = next(call for call in calls if call.name == "fsync" and "/segments>" in call.text and call.begin > named.end)
    committed = next(call for call in calls if call.name == "fdatasync" and call.begin > named.end)
    assert file_synced.end < named.begin <= named.end < directory_synced.begin <= directory_synced.end < committed.begin


@pytest.mark.parametrize("call", ["fdatasync", "pwrite64"])
def test_a_failed_sync_is_never_acknowledged(server: Server, tmp_path: Path, call: str) -> None:
    """When the disk fails at the commit, the write gets no success, the process ends, and the next one has what was acknowledged."""
    data = str(tmp_path / "data" / "live" / "data.mdb")
    with (
        Client(server.port) as client,
        Strace(server.process.pid, tmp_path / "trace", "-P", data, "-e", f"trace={call}", "-e", f"inject={call}:error=EIO"),
    ):
        assert not is_acknowledged(client, entry(1))
        assert server.wait_exit() == EXIT_FATAL
    assert "must be started again" in server.log()
    server.restart()
    with Client(server.port) as client:
        assert client.get(INDEX, iscc_id(0)).body == without_simprints(entry(0))
        assert client.get(INDEX, iscc_id(1)).status == 404
        assert client.index(INDEX).body["assets"] == 1
        assert client.add(INDEX, [entry(1)]).status == 201


def entry(number: int) -> Entry:
    return Entries(number).entry(iscc_id(number))


def only(calls: list[Call], name: str, part: str) -> Call:
    """The one call of that name with that text in its arguments."""
    (call,) = (call for call in calls if call.name == name and part in call.text)
    return call


def is_synchronous(process: int, descriptor: int) -> bool:
    """True when a write to the descriptor returns only after the data is on the disk."""
    lines = Path(f"/proc/{process}/fdinfo/{descriptor}").read_text().splitlines()
    flags = next(int(line.split()[1], 8) for line in lines if line.startswith("flags:"))
    return flags & os.O_DSYNC == os.O_DSYNC


def is_acknowledged(client: Client, asset: Entry) -> bool:
    try:
        answer = client.add(INDEX, [asset])
    except Lost:
        return False
    assert answer.status in (201, 500, 503), answer
    return answer.status == 201
