"""The scan kernels of the exact tier beside faiss `IndexBinaryFlat`: `python -m bench.kernels` prints a table for README.md here.

Every figure is CPU time of one core in milliseconds: the median of repeats, in which the contenders take turns. Answers are compared
before anything is measured. Reading the memory once is `memchr` of the C library over as many bytes, for a byte that is not there.
"""

from __future__ import annotations

import ctypes
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.engine import kernels
from service.engine.kernels import Hits, Words

try:
    import faiss
except ImportError:
    sys.exit("faiss is missing: pip install -e '.[bench]'")

COUNTS = (100_000, 1_000_000)
WORD_COUNTS = (1, 4)
LIMIT = 10
SIMILARITY = 0.75
CLUSTER_ROWS = 10
CLUSTER_FLIPS = 8
REPEATS = 41
QUERIES_MANY = 50
REPEATS_MANY = 5
SEED = 20_261_120

Codes = NDArray[np.uint64]
Measured = Callable[[], object]


def main() -> None:
    faiss.omp_set_num_threads(1)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, kernel {kernels.KERNEL}, one core, CPU time in ms  ")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, faiss {faiss.__version__}; top {LIMIT}, range at {SIMILARITY}\n")
    print("| bits | codes | data | search | C | numpy | faiss flat | memory once | faiss / C | numpy / faiss | C / memory |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for words in WORD_COUNTS:
        for count in COUNTS:
            for data, codes in (("random", random_codes(count, words)), ("clustered", clustered_codes(count, words))):
                for search, times in measure_all(codes):
                    print(row(64 * words, count, data, search, times), flush=True)


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def random_codes(count: int, words: int) -> Codes:
    return np.random.default_rng(SEED).integers(0, 2**64, (count, words), np.uint64)


def clustered_codes(count: int, words: int) -> Codes:
    """Groups of near-duplicates: each code is its group's centre with a few bits changed."""
    generator = np.random.default_rng(SEED)
    codes = np.repeat(random_codes(count // CLUSTER_ROWS, words), CLUSTER_ROWS, axis=0)
    for _ in range(CLUSTER_FLIPS):
        changed = np.uint64(1) << generator.integers(0, 64, count, np.uint64)
        codes[np.arange(count), generator.integers(0, words, count)] ^= changed
    return codes


def measure_all(codes: Codes) -> list[tuple[str, list[float]]]:
    """C, numpy, faiss and memory for each kind of search."""
    count, words = codes.shape
    columns = np.ascontiguousarray(codes.T)
    index = faiss.IndexBinaryFlat(64 * words)
    index.add(as_bytes(codes))
    queries = codes[:: count // QUERIES_MANY][:QUERIES_MANY] ^ np.uint64(0b1001)
    read = read_once(codes.nbytes)
    return [
        (f"top {LIMIT}", take_turns([*top_searches(columns, index, queries[0]), read], REPEATS)),
        ("range", take_turns([*range_searches(columns, index, queries[:1]), read], REPEATS)),
        (f"range, {QUERIES_MANY} queries", take_turns([*range_searches(columns, index, queries), read], REPEATS_MANY)),
    ]


def top_searches(columns: Words, index: faiss.IndexBinaryFlat, query: Codes) -> list[Measured]:
    """Ours answer with all that ties with the last one, so the first ten distances are what must agree."""
    count = columns.shape[1]
    theirs = as_bytes(query[None])
    searches: list[Measured] = [
        lambda: kernels.compiled_top_scan(columns, count, query, LIMIT),
        lambda: kernels.numpy_top_scan(columns, count, query, LIMIT),
        lambda: index.search(theirs, LIMIT),
    ]
    expected = index.search(theirs, LIMIT)[0][0].tolist()
    for scan in (kernels.compiled_top_scan, kernels.numpy_top_scan):
        agree(scan(columns, count, query, LIMIT).distance[:LIMIT].tolist(), expected)
    return searches


def range_searches(columns: Words, index: faiss.IndexBinaryFlat, queries: Codes) -> list[Measured]:
    """The radius of faiss is exclusive."""
    words, count = columns.shape
    radius = int(64 * words * (1 - SIMILARITY))
    theirs = as_bytes(queries)
    searches: list[Measured] = [
        lambda: kernels.compiled_range_scan(columns, count, queries, radius),
        lambda: kernels.numpy_range_scan(columns, count, queries, radius),
        lambda: index.range_search(theirs, radius + 1),
    ]
    bounds, distances, rows = index.range_search(theirs, radius + 1)
    numbers = np.repeat(np.arange(len(queries)), np.diff(bounds.astype(np.int64)))
    expected = sorted(zip(numbers.tolist(), rows.tolist(), distances.astype(int).tolist(), strict=True))
    for scan in (kernels.compiled_range_scan, kernels.numpy_range_scan):
        agree(as_tuples(scan(columns, count, queries, radius)), expected)
    return searches


def as_bytes(codes: Codes) -> NDArray[np.uint8]:
    return np.ascontiguousarray(codes).view(np.uint8)


def as_tuples(hits: Hits) -> list[tuple[int, ...]]:
    return list(zip(*(array.tolist() for array in hits), strict=True))


def agree(ours: object, theirs: object) -> None:
    if ours != theirs:
        sys.exit(f"answers differ ours={ours} theirs={theirs}")


def read_once(length: int) -> Measured:
    ones = np.ones(length, np.uint8)
    memchr = ctypes.CDLL(None).memchr
    memchr.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    memchr.restype = ctypes.c_void_p
    address = ones.ctypes.data
    return lambda: (memchr(address, 0, length), ones)  # holds the array for as long as its address is read


def take_turns(searches: Sequence[Measured], repeats: int) -> list[float]:
    """The median in milliseconds for each; in turn, so that a disturbance of the machine meets all of them."""
    spent: list[list[float]] = [[] for _ in searches]
    for _ in range(repeats):
        for times, search in zip(spent, searches, strict=True):
            search()  # what was read last is in the cache, as it is for the others
            start = time.process_time()
            search()
            times.append((time.process_time() - start) * 1000)
    return [statistics.median(times) for times in spent]


def row(bits: int, count: int, data: str, search: str, times: Sequence[float]) -> str:
    compiled, plain, theirs, memory = times
    figures = " | ".join(f"{time:.3f}" for time in times)
    return (
        f"| {bits} | {count:,} | {data} | {search} | {figures} | {theirs / compiled:.1f} | {plain / theirs:.1f} | {compiled / memory:.1f} |"
    )


if __name__ == "__main__":
    main()
