"""The child process that builds one graph file: `python -m service.engine.graph_build` and the fields of `Job` in their order.

Answers with the GraphFile as msgpack on standard output, or ends with an error on standard error. It ends by itself when standard input
is closed, which happens at the latest when its parent dies; it then leaves a temporary file, which the next start of the engine removes.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from service.engine.files import publish
from service.engine.graphs import GraphFailed, GraphFile, GraphSettings, graph_bytes

WORD_BITS = 64
ORPHANED = 3


class Job(msgspec.Struct, frozen=True):
    """What the command line says."""

    segment: Path
    target: Path
    rows: int
    words: int
    bits: int
    connectivity: int
    expansion_add: int


def main(arguments: list[str]) -> None:
    """Waits for the parent's end beside the work, because usearch cannot be interrupted."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _step_back()
    sys.stdout.buffer.write(msgspec.msgpack.encode(build(_parse(arguments))))


def build(job: Job) -> GraphFile:
    """Writes the graph over the first `bits` of the rows of a segment."""
    keys, vectors = distinct(read_words(job.segment, job.rows, job.words), job.bits)
    content = graph_bytes(keys, vectors, GraphSettings(job.connectivity, job.expansion_add, expansion_search=0, neighbours=0))
    digest = publish(job.target, [memoryview(content)])
    return GraphFile(job.bits, job.target.name, len(content), digest)


def read_words(segment: Path, rows: int, words: int) -> NDArray[np.uint64]:
    """The columns of a segment, in memory: a mapped file that shrinks would end the process without a word."""
    content = segment.read_bytes()
    if len(content) != rows * words * 8:
        raise GraphFailed(f"segment has another size expected={rows * words * 8} got={len(content)}")
    return np.frombuffer(content, np.uint64).reshape(words, rows)


def distinct(words: NDArray[np.uint64], bits: int) -> tuple[NDArray[np.uint64], NDArray[np.uint8]]:
    """First row and cut body of each run of rows that begin with the same bits."""
    if bits % WORD_BITS or not 0 < bits <= len(words) * WORD_BITS:
        raise GraphFailed(f"no such length in the segment bits={bits} words={len(words)}")
    cut = words[: bits // WORD_BITS]
    begins = np.ones(cut.shape[1], bool)
    begins[1:] = (cut[:, 1:] != cut[:, :-1]).any(axis=0)
    vectors = np.ascontiguousarray(cut[:, begins].T.astype(">u8"))
    return np.flatnonzero(begins).astype(np.uint64), vectors.view(np.uint8)


def _parse(arguments: list[str]) -> Job:
    segment, target, *numbers = arguments
    return Job(Path(segment), Path(target), *map(int, numbers))


def _end_with_parent() -> None:
    # Not `sys.stdin.read`: a thread that holds its lock when the interpreter shuts down is a fatal error.
    while os.read(0, 4096):
        pass
    os._exit(ORPHANED)


def _step_back() -> None:
    """Takes what others leave of the processor, and is the first to go when memory runs out.

    Not SCHED_IDLE: on a machine that is never idle a build would not end, and the engine's other background work waits for it.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")
    os.nice(19)


if __name__ == "__main__":
    main(sys.argv[1:])
