"""Graph files are whole or not there, whatever happens to the child, and nothing that kills usearch can be reached."""

from __future__ import annotations

import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from service.engine.graphs import Builder, GraphFailed, GraphFile, GraphSettings, Views, check, settings_for
from tests.engine.graph_recall import Codes, random_codes, split_sorted, write_segment

QUICK = GraphSettings(connectivity=8, expansion_add=16, expansion_search=32, neighbours=10)
SLOW = GraphSettings(connectivity=64, expansion_add=2000, expansion_search=32, neighbours=10)
ROWS = 2000
WAIT_S = 30.0


class Segment:
    """A segment file with random bodies of 256 bits."""

    def __init__(self, path: Path, rows: int = ROWS, seed: int = 1) -> None:
        (columns,) = split_sorted(random_codes(np.random.default_rng(seed), 256, rows), rows)
        self.columns: Codes = columns
        self.path = write_segment(path, columns)
        self.rows = rows

    def build(self, builder: Builder, target: Path, bits: int = 64, settings: GraphSettings = QUICK) -> GraphFile:
        return builder.build(self.path, self.rows, 4, bits, target, settings)

    def body(self, row: int, bits: int = 64) -> bytes:
        return self.columns[: bits // 64, row].astype(">u8").tobytes()


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment(tmp_path / "s.segment")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "s.64.graph"


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def until(reached: Callable[[], bool]) -> None:
    """Returns when the state is reached."""
    end = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < end, "the state was not reached"
        os.sched_yield()


def is_building(builder: Builder) -> bool:
    """True when the child has stepped back, which is the last thing before it builds."""
    child = builder.child_id
    return child is not None and os.getpriority(os.PRIO_PROCESS, child) == 19


@contextmanager
def in_background(segment: Segment, builder: Builder, target: Path) -> Iterator[Callable[[], GraphFile]]:
    """A build that takes minutes, and is under way. Gives what waits for its result."""
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(segment.build, builder, target, 256, SLOW)
        try:
            until(lambda: is_building(builder) or building.done())
            yield lambda: building.result(WAIT_S)
        finally:
            builder.stop()


@contextmanager
def files_at_most(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size`: a full disk, for this process and the children it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def mappings(name: str) -> int:
    """How often a file is mapped into this process."""
    return sum(name in line for line in Path("/proc/self/maps").read_text("utf-8").splitlines())


@pytest.mark.parametrize("bits", [64, 128, 192, 256])
def test_every_compared_length(tmp_path: Path, segment: Segment, target: Path, bits: int) -> None:
    """A graph over the first bits of the bodies finds each body by them, under the row where it stands."""
    graph = segment.build(Builder(), target, bits)
    assert (graph.bits, graph.name, graph.size) == (bits, target.name, target.stat().st_size)
    assert check(target, graph)
    assert names(tmp_path) == ["s.64.graph", "s.segment"]
    views = Views()
    for row in range(0, ROWS, 97):
        found = views.search(target, bits, segment.body(row, bits), QUICK)
        assert found[0] == (row, 0)
        assert len(found) == QUICK.neighbours
        assert [distance for _, distance in found] == [distances(segment, row, bits)[other] for other, _ in found]


def distances(segment: Segment, row: int, bits: int) -> list[int]:
    words = segment.columns[: bits // 64]
    listed: list[int] = np.bitwise_count(words ^ words[:, row : row + 1]).sum(axis=0, dtype=np.int64).tolist()
    return listed


def test_bodies_that_begin_alike(tmp_path: Path, target: Path) -> None:
    """20,000 bodies with the same first bits are one key, their first row; it is found, and so are the keys next to it."""
    generator = np.random.default_rng(5)
    codes = random_codes(generator, 256, 25_000)
    codes[:20_000, 0] = codes[0, 0]
    codes[20_000:20_010, 0] = codes[0, 0] ^ (np.uint64(1) << np.arange(10, dtype=np.uint64))
    (columns,) = split_sorted(codes, len(codes))
    write_segment(tmp_path / "s.segment", columns)
    Builder().build(tmp_path / "s.segment", len(codes), 4, 64, target, settings_for(64))
    found = Views().search(target, 64, codes[:1, 0].astype(">u8").tobytes(), settings_for(64))
    first = int(np.flatnonzero(columns[0] == codes[0, 0])[0])
    assert found[0] == (first, 0)
    assert [distance for _, distance in found[1:11]] == [1] * 10


def test_fewer_codes_than_neighbours(tmp_path: Path, target: Path) -> None:
    """Only results that are there come back."""
    segment = Segment(tmp_path / "three.segment", rows=3)
    segment.build(Builder(), target)
    assert sorted(row for row, _ in Views().search(target, 64, segment.body(1), QUICK)) == [0, 1, 2]


def damaged(content: bytes) -> dict[str, bytes]:
    half = len(content) // 2
    return {
        "cut": content[:-1],
        "empty": b"",
        "zero tail": content[:half] + bytes(len(content) - half),
        "one bit": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        "longer": content + b"\0",
    }


@pytest.mark.parametrize("damage", damaged(bytes(2)))
def test_damage(segment: Segment, target: Path, damage: str) -> None:
    """A file that is not byte for byte what was built is refused before usearch sees it."""
    graph = segment.build(Builder(), target)
    target.write_bytes(damaged(target.read_bytes())[damage])
    assert not check(target, graph)


def test_file_that_is_missing(segment: Segment, target: Path) -> None:
    """A file that is not there is refused, and opening it is an error that the engine knows."""
    graph = segment.build(Builder(), target)
    target.unlink()
    assert not check(target, graph)
    with pytest.raises(GraphFailed, match="cannot search"):
        Views().search(target, 64, segment.body(0), QUICK)


def test_graph_of_another_length(segment: Segment, target: Path) -> None:
    """usearch takes the length from the file: a query of another length never reaches it."""
    segment.build(Builder(), target, 128)
    with pytest.raises(GraphFailed, match="another length"):
        Views().search(target, 64, segment.body(0), QUICK)
    with pytest.raises(GraphFailed, match="does not fit"):
        Views().search(target, 128, segment.body(0), QUICK)


def test_half_written_file(tmp_path: Path, segment: Segment, target: Path) -> None:
    """What a crash left under the temporary name does not matter."""
    (tmp_path / "s.64.graph.tmp").write_bytes(b"half")
    assert check(target, segment.build(Builder(), target))
    assert names(tmp_path) == ["s.64.graph", "s.segment"]


@pytest.mark.parametrize("missing", [1, 500, 100_000])
def test_full_disk(tmp_path: Path, segment: Segment, target: Path, missing: int) -> None:
    """Even when only the last byte does not fit, the build fails and leaves nothing behind."""
    size = segment.build(Builder(), target).size
    target.unlink()
    with files_at_most(size - missing), pytest.raises(GraphFailed, match="free space"):
        segment.build(Builder(), target)
    assert names(tmp_path) == ["s.segment"]


@pytest.mark.parametrize(
    ("rows", "bits", "message"), [(ROWS + 1, 64, "another size"), (ROWS, 320, "no such length"), (ROWS, 65, "no such length")]
)
def test_segment_that_does_not_fit(tmp_path: Path, segment: Segment, target: Path, rows: int, bits: int, message: str) -> None:
    """A segment that is shorter than its row says is not read."""
    with pytest.raises(GraphFailed, match=message):
        Builder().build(segment.path, rows, 4, bits, target, QUICK)
    assert names(tmp_path) == ["s.segment"]


def test_killed_child(tmp_path: Path, target: Path) -> None:
    """A child that is killed costs the graph and nothing else, and the next build works."""
    segment = Segment(tmp_path / "s.segment", 20_000)
    builder = Builder()
    with in_background(segment, builder, target) as result:
        assert builder.child_id is not None
        os.kill(builder.child_id, signal.SIGKILL)
        with pytest.raises(GraphFailed, match="SIGKILL"):
            result()
        assert names(tmp_path) == ["s.segment"]
        assert check(target, segment.build(builder, target))


def test_stop(tmp_path: Path, target: Path) -> None:
    """Closing the engine ends a running build, and no other begins."""
    segment = Segment(tmp_path / "s.segment", 20_000)
    builder = Builder()
    with in_background(segment, builder, target) as result:
        builder.stop()
        with pytest.raises(GraphFailed, match="closing"):
            result()
    with pytest.raises(GraphFailed, match="closing"):
        segment.build(builder, target)
    assert names(tmp_path) == ["s.segment"]


def test_build_that_takes_too_long(tmp_path: Path, target: Path) -> None:
    """A build has a limit."""
    segment = Segment(tmp_path / "s.segment", 20_000)
    with pytest.raises(GraphFailed, match="not done after"):
        segment.build(Builder(build_s_max=0.2), target, 256, SLOW)
    assert names(tmp_path) == ["s.segment"]


PARENT = """
import os, sys, threading
from pathlib import Path
from service.engine.graphs import Builder, GraphSettings
builder = Builder()
arguments = Path(sys.argv[1]), 20_000, 4, 256, Path(sys.argv[2]), GraphSettings(64, 2000, 32, 10)
threading.Thread(target=builder.build, args=arguments).start()
while builder.child_id is None or os.getpriority(os.PRIO_PROCESS, builder.child_id) != 19:
    os.sched_yield()
print(builder.child_id, flush=True)
"""


def test_parent_that_dies(tmp_path: Path, target: Path) -> None:
    """The child ends by itself when its parent is killed."""
    segment = Segment(tmp_path / "s.segment", 20_000)
    command = [sys.executable, "-c", PARENT, str(segment.path), str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as parent:
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
    ended = select.poll()
    ended.register(child, select.POLLIN)
    assert ended.poll(WAIT_S * 1000)
    os.close(child)


def test_each_thread_has_its_own(segment: Segment, target: Path) -> None:
    """Three threads that search one file have it open three times; it is closed when it is forgotten or the thread ends."""
    segment.build(Builder(), target)
    other = target.with_name("other.graph")
    segment.build(Builder(), other)
    views = Views()
    met = threading.Barrier(4)

    def search() -> None:
        views.search(target, 64, segment.body(0), QUICK)
        met.wait(WAIT_S)
        met.wait(WAIT_S)
        views.search(other, 64, segment.body(0), QUICK)
        met.wait(WAIT_S)

    with ThreadPoolExecutor(3) as pool:
        searches = [pool.submit(search) for _ in range(3)]
        met.wait(WAIT_S)
        assert mappings(target.name) == 3
        views.forget([target.name])
        target.unlink()
        met.wait(WAIT_S)
        met.wait(WAIT_S)
        assert [search.result(WAIT_S) for search in searches] == [None] * 3
        assert mappings(target.name) == 0
    assert mappings(other.name) == 0


def test_forgotten_graph(segment: Segment, target: Path) -> None:
    """A search with an older view cannot open a forgotten graph again, even when its file is still there."""
    segment.build(Builder(), target)
    views = Views()
    views.search(target, 64, segment.body(0), QUICK)
    views.forget([target.name])
    with pytest.raises(GraphFailed, match="not searched any more"):
        views.search(target, 64, segment.body(0), QUICK)
    assert mappings(target.name) == 0


def test_files_are_swapped_while_eight_threads_search(segment: Segment, target: Path) -> None:
    """Searches go on, with the right answers, while graphs are replaced, forgotten and removed."""
    segment.build(Builder(), target)
    content = target.read_bytes()
    views = Views()
    expected = [views.search(target, 64, segment.body(row), QUICK) for row in range(50)]
    current = [target]
    done = threading.Event()

    def search(seed: int) -> int:
        answers = 0
        while not done.is_set():
            row = (seed + answers) % len(expected)
            path = current[0]
            try:
                assert views.search(path, 64, segment.body(row), QUICK) == expected[row]
            except GraphFailed:
                assert path != current[0]
            answers += 1
        return answers

    with ThreadPoolExecutor(8) as pool:
        searches = [pool.submit(search, seed) for seed in range(8)]
        for number in range(100):
            old = current[0]
            new = target.with_name(f"{number}.graph")
            new.write_bytes(content)
            current[0] = new
            views.forget([old.name])
            old.unlink()
        done.set()
        assert all(search.result(WAIT_S) for search in searches)


@pytest.mark.timing
def test_search_beside_a_busy_thread(segment: Segment, target: Path) -> None:
    """A thread that keeps the interpreter busy costs a search a few turns, not one for each vector."""
    segment.build(Builder(), target)
    views = Views()
    done = threading.Event()

    def count() -> None:
        while not done.is_set():
            sum(range(1000))

    with ThreadPoolExecutor(1) as pool:
        pool.submit(count)
        started = time.monotonic()
        for row in range(20):
            views.search(target, 64, segment.body(row), QUICK)
        took = time.monotonic() - started
        done.set()
    assert took < 20 * 20 * sys.getswitchinterval()


def test_late_import() -> None:
    """usearch is not loaded by an engine without graphs."""
    command = "import service.engine.graphs, sys; sys.exit('usearch' in sys.modules)"
    subprocess.run([sys.executable, "-c", command], cwd=Path(__file__).parents[2], check=True)
