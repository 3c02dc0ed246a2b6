"""Graphs: usearch HNSW indexes over the distinct first bits of one segment. The only module that imports usearch.

A key of a graph is the first row of the run of rows whose bodies begin with the same bits. A graph file is what `Index.save` gives for
an index of metric hamming and type b1; nothing else knows its format, and every graph can be built again from its segment.

A file is built by a child process and searched through views that belong to one thread each. usearch is imported when the first graph
was built or checked, because the import takes a third of a second.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.engine.errors import EngineError
from service.engine.files import TEMPORARY, digest_of

if TYPE_CHECKING:
    from usearch.index import Index

BATCH_ROWS = 1000
BUILD_S_MAX = 1800.0
CHILD = "service.engine.graph_build"
ROOT = Path(__file__).parents[2]


class GraphFailed(EngineError):
    """A graph was not built or cannot be opened: its segment is scanned instead."""


class GraphSettings(msgspec.Struct, frozen=True):
    """What usearch is told."""

    connectivity: int
    expansion_add: int
    expansion_search: int
    neighbours: int
    """Nearest keys that one search of one graph asks for."""


class GraphFile(msgspec.Struct, frozen=True, array_like=True):
    """What a graph file must be when it is opened."""

    bits: int
    name: str
    size: int
    digest: bytes


def settings_for(bits: int) -> GraphSettings:
    """Found 0.99 of the ten best matches in `bench/graphs.py`, with a margin. Many edges, quickly chosen, cost least at that recall."""
    return GraphSettings(connectivity=64, expansion_add=96, expansion_search=128 if bits == 64 else 144, neighbours=100)


def check(path: Path, file: GraphFile) -> bool:
    """True when the file is the one that was built. Comes before the first search: usearch dies on a damaged file, or answers wrongly."""
    try:
        whole = path.stat().st_size == file.size and digest_of(path) == file.digest
    except OSError:
        return False  # what cannot be read cannot be searched; it is built again like a damaged one
    if whole:
        _load()
    return whole


def _load() -> None:
    """Imports usearch on the background thread, so that the first search of a graph does not wait for it."""
    importlib.import_module("usearch.index")


class _Opened(threading.local):
    """The graphs that one thread has open, and how many names were forgotten when it last looked."""

    def __init__(self) -> None:
        self.indexes: dict[str, Index] = {}
        self.seen = 0


class Views:
    """Searches graphs. Lives as long as the engine; any thread may search, and each has usearch objects of its own.

    Names of graph files are never used twice. So a name that was forgotten stays forgotten, and a thread that still holds an older view
    of the segments cannot open it again.
    """

    def __init__(self) -> None:
        self._opened = _Opened()
        self._forgotten: set[str] = set()

    def search(self, graph: Path, bits: int, query: bytes, settings: GraphSettings) -> list[tuple[int, int]]:
        """First rows and distances, the nearest first. GraphFailed when the file is gone or was forgotten."""
        if len(query) * 8 != bits:
            raise GraphFailed(f"query does not fit the graph {graph.name} bits={bits} query_bits={len(query) * 8}")
        # One vector a call: in a batch, usearch takes the GIL again for each vector and waits for it behind busy threads.
        try:
            found = self._index(graph, bits, settings).search(np.frombuffer(query, np.uint8), settings.neighbours, threads=1)
        except RuntimeError as error:
            raise GraphFailed(f"cannot search the graph {graph}: {error}") from error
        return list(zip(found.keys.tolist(), map(int, found.distances.tolist()), strict=True))

    def forget(self, names: Iterable[str]) -> None:
        """These files are not searched any more: every thread closes its views at its next search."""
        self._forgotten.update(names)

    def _index(self, graph: Path, bits: int, settings: GraphSettings) -> Index:
        opened = self._opened
        forgotten = len(self._forgotten)
        if opened.seen != forgotten:
            for name in [name for name in opened.indexes if name in self._forgotten]:
                del opened.indexes[name]
            opened.seen = forgotten
        index = opened.indexes.get(graph.name)
        if index is None:
            if graph.name in self._forgotten:
                raise GraphFailed(f"graph {graph.name} is not searched any more")
            index = opened.indexes[graph.name] = _open(graph, bits)
        index.expansion_search = settings.expansion_search  # type: ignore[misc]  # its setter has another name, which mypy misses
        return index


def _open(path: Path, bits: int) -> Index:
    from usearch.index import Index

    index = Index(ndim=bits, metric="hamming", dtype="b1", enable_key_lookups=False)
    index.view(path)
    if index.ndim != bits:
        raise GraphFailed(f"the graph {path} has another length expected={bits} got={index.ndim}")
    return index


def graph_bytes(keys: NDArray[np.uint64], vectors: NDArray[np.uint8], settings: GraphSettings) -> bytearray:
    """The content of a graph file. Runs in the child process only: adding takes seconds, and `save` holds the GIL.

    usearch writes into memory: when the disk is full, its `save` to a file can leave a short file and report nothing. The order of the
    vectors is shuffled: in the order of the segment, a few of many close bodies cannot be reached.
    """
    from usearch.index import Index

    bits = vectors.shape[1] * 8
    index = Index(ndim=bits, metric="hamming", dtype="b1", connectivity=settings.connectivity, expansion_add=settings.expansion_add)
    order = np.random.default_rng(len(keys)).permutation(len(keys))
    for start in range(0, len(keys), BATCH_ROWS):
        batch = order[start : start + BATCH_ROWS]
        index.add(keys[batch], vectors[batch], threads=1)
    content = index.save()
    if not isinstance(content, bytearray) or len(content) != index.serialized_length:
        raise GraphFailed(f"usearch saved another length expected={index.serialized_length} got={len(content or b'')}")
    return content


class Builder:
    """Builds graph files in a child process of low priority, one at a time.

    Lives as long as the engine. `build` is called on the background thread, `stop` on any. The child ends when `stop` is called, when
    the time is over, or when this process ends in whatever way: it waits on a pipe that only this process holds open.
    """

    def __init__(self, build_s_max: float = BUILD_S_MAX) -> None:
        self._build_s_max = build_s_max
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def child_id(self) -> int | None:
        """Process id of the running child."""
        child = self._child
        return child.pid if child else None

    def build(self, segment: Path, rows: int, words: int, bits: int, target: Path, settings: GraphSettings) -> GraphFile:
        """Returns when `target` is whole and durable. On GraphFailed neither it nor its temporary file is there."""
        numbers = (rows, words, bits, settings.connectivity, settings.expansion_add)
        command = [sys.executable, "-m", CHILD, str(segment.absolute()), str(target.absolute()), *map(str, numbers)]
        try:
            graph = self._result(*self._run(command))
        except GraphFailed as error:
            for path in (target, target.with_name(target.name + TEMPORARY)):
                path.unlink(missing_ok=True)
            raise GraphFailed(f"graph was not built: {error} segment={segment.name} bits={bits}") from error
        _load()
        return graph

    def stop(self) -> None:
        """Ends a running child; `build` raises from now on. May be called twice."""
        with self._lock:
            self._stopped = True
            if self._child is not None:
                self._child.kill()

    def _run(self, command: list[str]) -> tuple[int, bytes, bytes]:
        """Return code and output. The pipe is not the child's `stdin=PIPE`, which `communicate` would close."""
        reader, writer = os.pipe()
        try:
            child = self._start(command, reader)
            try:
                output, errors = child.communicate(timeout=self._build_s_max)
            except subprocess.TimeoutExpired:
                child.kill()
                child.communicate()
                raise GraphFailed(f"not done after {self._build_s_max:.0f} s") from None
            return child.returncode, output, errors
        except OSError as error:
            raise GraphFailed(f"no child process: {error.strerror}") from error
        finally:
            self._child = None
            os.close(reader)
            os.close(writer)

    def _start(self, command: list[str], stdin: int) -> subprocess.Popen[bytes]:
        """Where this package was imported from, and in a process group of its own: a Ctrl-C is for the service, which stops the child."""
        with self._lock:
            if self._stopped:
                raise GraphFailed("the engine is closing")
            pipe = subprocess.PIPE
            self._child = subprocess.Popen(  # noqa: S603 - our own module
                command, cwd=ROOT, stdin=stdin, stdout=pipe, stderr=pipe, process_group=0
            )
            return self._child

    def _result(self, code: int, output: bytes, errors: bytes) -> GraphFile:
        if self._stopped:
            raise GraphFailed("the engine is closing")
        if code < 0:
            raise GraphFailed(f"the child process was ended by {signal.Signals(-code).name}")
        if code > 0:
            raise GraphFailed(errors.decode(errors="replace").strip().rpartition("\n")[2] or f"the child process ended with {code}")
        try:
            return msgspec.msgpack.decode(output, type=GraphFile)
        except msgspec.DecodeError as error:
            raise GraphFailed("the child process answered something else") from error
