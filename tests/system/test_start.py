"""Starting: after a kill, with damaged files, in a directory that is somebody else's, with settings that cannot be used."""

from __future__ import annotations

import hashlib
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.client import Client, Entry, metrics
from tests.system.damage import cut, empty, flip, grow, remove, zero_end
from tests.system.entries import iscc_id, unique_entry
from tests.system.lookup import all_graphs_built, engine_figures, find_wholly
from tests.system.server import HOST, Server, wait_until

INDEX = "works"
ASSETS = 200
SETTINGS = {"SEGMENT_CODES": 64, "EXACT_MAX_CODES": 0}
GRAPH_SECONDS = 120.0
READY_SECONDS = 5.0
EXIT_FAILED, EXIT_SETTINGS, EXIT_DAMAGED = 1, 2, 78

Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with segments, a graph for each, and a tail; nobody has it open."""
    directory = tmp_path_factory.mktemp("filled") / "data"
    with Server(directory, **SETTINGS) as server, Client(server.port) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, entries()).status == 201
        wait_until(lambda: all_graphs_built(server.port), GRAPH_SECONDS, "graphs of all segments")
        assert server.stop() == 0
    return directory


@pytest.fixture
def copy(filled: Path, tmp_path: Path) -> Path:
    """A copy of the filled directory, to be damaged."""
    return Path(shutil.copytree(filled, tmp_path / "data"))


def entries() -> list[Entry]:
    rng = random.Random(5)
    return [unique_entry(rng, iscc_id(number)) for number in range(ASSETS)]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    """It ends with an error that names the first one's process id and the directory, and the first goes on undisturbed."""
    with Server(tmp_path / "data") as first, Client(first.port) as client:
        client.create_index(INDEX)
        code, log = start_in_vain(Server(tmp_path / "data"))
        assert code == EXIT_FAILED
        assert f"the data directory {tmp_path / 'data'} is in use by process {first.process.pid}" in log
        assert client.add(INDEX, entries()[:1]).status == 201
        assert find_wholly(client, INDEX, entries()[:1]) == {iscc_id(0)}


@pytest.mark.timing
def test_a_killed_owner_leaves_no_lock(copy: Path) -> None:
    """After SIGKILL the next process starts at once and is ready in seconds with everything searchable."""
    with Server(copy, **SETTINGS) as server:
        server.kill()
        assert server.restart() < READY_SECONDS
        assert found_everything(server)


def test_a_moved_directory_is_taken_as_it_is(copy: Path) -> None:
    """Other inodes and times are no damage: nothing is rebuilt."""
    with Server(copy, **SETTINGS) as server:
        assert found_everything(server)
        wait_until(lambda: all_graphs_built(server.port), GRAPH_SECONDS, "the graphs to be checked")
        now = engine_figures(server.port)
        assert now["segments_rebuilt"] == now["graphs_discarded"] == now["graphs_built"] == 0


DAMAGES = (cut, empty, flip, grow, zero_end, remove)


def test_damaged_segments_are_rebuilt(copy: Path) -> None:
    """When the service is ready everything is found; the log names the files, the metrics count them, the next start has nothing to do."""
    damaged = damage_files(copy, "*.segment")
    with Server(copy, **SETTINGS) as server:
        assert found_everything(server)
        assert engine_figures(server.port)["segments_rebuilt"] == len(damaged)
        assert all(f'rebuilding it from the postings","file":"{path}' in server.log() for path in damaged)
        assert server.stop() == 0
        server.restart()
        assert engine_figures(server.port)["segments_rebuilt"] == 0
        assert found_everything(server)


def test_damaged_graphs_are_rebuilt(copy: Path) -> None:
    """Everything is found at once, without the graphs, and again through the new ones."""
    damaged = damage_files(copy, "*.graph")
    with Server(copy, **SETTINGS) as server:
        assert found_everything(server)
        wait_until(lambda: all_graphs_built(server.port), GRAPH_SECONDS, "graphs of all segments")
        assert engine_figures(server.port)["graphs_discarded"] == len(damaged)
        assert server.log().count("graph file is missing or damaged, building it again") == len(damaged)
        assert found_everything(server)


def test_lost_segment_directory_is_rebuilt(copy: Path) -> None:
    """Without any derived file everything is found."""
    shutil.rmtree(copy / "live" / "segments")
    with Server(copy, **SETTINGS) as server:
        assert found_everything(server)


def garbage_in_the_header(path: Path) -> None:
    path.write_bytes(b"\xa5" * 8192 + path.read_bytes()[8192:])


def garbage_in_the_second_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * 4096 + content[8192:])


def cut_to_a_page(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:4096])


def pages_never_written(path: Path) -> None:
    """What a disk that lies about fsync leaves. It is looked for when the last stop was not clean."""
    path.write_bytes(path.read_bytes()[:8192].ljust(path.stat().st_size, b"\0"))
    (path.parent.parent / "clean").unlink()


@pytest.mark.parametrize(
    "damage", [empty, cut, cut_to_a_page, pages_never_written, garbage_in_the_header, garbage_in_the_second_header, remove]
)
def test_a_damaged_store_is_a_clear_error(copy: Path, damage: Damage) -> None:
    """The process ends before it serves, names the file and what to do, and nothing in the directory changes."""
    store = copy / "live" / "data.mdb"
    damage(store)
    before = tree(copy)
    code, log = start_in_vain(Server(copy, SNAPSHOT_URL="none", **SETTINGS))
    assert code == EXIT_DAMAGED
    assert str(store) in log
    assert "move" in log
    assert "Traceback" not in log
    assert tree(copy) == before


def test_a_directory_of_iscc_search_is_refused(tmp_path: Path) -> None:
    """The error says how to move the data, and not one file is touched or made."""
    directory = tmp_path / "data"
    (directory / "photos").mkdir(parents=True)
    (directory / "photos" / "index.lmdb").write_bytes(b"somebody else's")
    before = tree(directory)
    code, log = start_in_vain(Server(directory))
    assert code == EXIT_DAMAGED
    assert "was written by iscc-search (indexes: photos)" in log
    assert "iscc-search index add NAME --remote URL" in log
    assert tree(directory) == before


def test_a_port_in_use_is_a_clear_error(tmp_path: Path) -> None:
    """The process says which place is taken and which settings choose another, and gives the directory back."""
    server = Server(tmp_path / "data")
    with socket.socket() as other:
        other.bind((HOST, server.port))
        other.listen()
        code, log = start_in_vain(server)
    assert code == EXIT_FAILED
    assert f"cannot listen on {HOST}:{server.port}" in log
    assert "ISCC_SEARCH_PORT" in log
    with server:
        assert metrics(server.port)["tidepool_ready"] == 1


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("INDEX_URI", "lmdb:///data", "write usearch:///data"),
        ("INDEX_URI", "memory://", "write usearch:///tmp/tidepool"),
        ("INDEX_URI", "usearch://relative", "write usearch:///relative"),
        ("WORKERS", "2", "one process owns the data"),
        ("PORT", "80000", "expected a whole number from 1 to 65535"),
        ("API_SECRET", "", "write a secret of your own"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, name: str, value: str, advice: str) -> None:
    """The process ends with a line that names the variable and what to write instead, and makes no directory."""
    code, log = start_in_vain(Server(tmp_path / "data", **{name: value}))
    assert code == EXIT_SETTINGS
    assert f"ISCC_SEARCH_{name}=" in log
    assert advice in log
    assert not (tmp_path / "data").exists()


def damage_files(directory: Path, pattern: str) -> list[Path]:
    """Each of some derived files in another way. Returns which."""
    files = sorted((directory / "live" / "segments").glob(pattern))[: len(DAMAGES)]
    assert len(files) == len(DAMAGES)
    for path, damage in zip(files, DAMAGES, strict=True):
        damage(path)
    return files


def start_in_vain(server: Server) -> tuple[int, str]:
    """Exit code and log of a process that is expected to end by itself."""
    server.start()
    try:
        return server.wait_exit(), server.log()
    finally:
        server.end()


def found_everything(server: Server) -> bool:
    with Client(server.port) as client:
        return find_wholly(client, INDEX, entries()) == {iscc_id(number) for number in range(ASSETS)}


PASSING = ("tidepool.lock", "lock.mdb", "clean", "failed.json")


def tree(directory: Path) -> dict[str, str]:
    """Every file with the digest of its content, without those that say only how the last process stood."""

    def files() -> Iterator[Path]:
        return (path for path in directory.rglob("*") if path.is_file() and path.name not in PASSING)

    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files()}
