"""The graph tier beside the exact scan and faiss `IndexBinaryHNSW`: `python -m bench.graphs` prints a table for README.md here.

Codes are in segments as the engine seals them: a search asks each graph, or scans each segment, one after the other. faiss has one index
over all codes. Times are CPU time of one core, medians of single queries; recall is that of the best ten matches at 0.75, ties counted.
"""

from __future__ import annotations

import argparse
import platform
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from bench.kernels import as_bytes, processor
from service.engine import kernels
from service.engine.graphs import GraphSettings, Views, settings_for
from service.engine.kernels import Hits
from tests.engine.graph_recall import BEST, SIMILARITY, Codes, Sealed, Workload, clustered, exact_nearest, planted, recall, seal

try:
    import faiss
except ImportError:
    sys.exit("faiss is missing: pip install -e '.[bench]'")

FAISS_CONNECTIVITY = 16
FAISS_EXPANSION_ADD = 128
FAISS_EXPANSIONS = (64, 128, 256, 512, 1024, 2048)
QUERIES = 500
Scan = Callable[[Codes, int, Codes, int], Hits]


class Row(NamedTuple):
    """One line of the table."""

    name: str
    build_per_s: float
    code_bytes: float
    search_us: float
    recall: float

    def __str__(self) -> str:
        build = f"{self.build_per_s:,.0f}" if self.build_per_s else "-"
        return f"{self.name} | {build} | {self.code_bytes:.0f} | {self.search_us:,.0f} | {self.recall:.4f} |"


def main() -> None:
    options = arguments()
    faiss.omp_set_num_threads(1)
    versions = ", ".join(f"{name} {version(name)}" for name in ("usearch", "faiss-cpu", "numpy"))
    print(f"{datetime.now(UTC):%Y-%m-%d}, {processor()}, kernel {kernels.KERNEL}, one core, CPU time  ")
    print(f"Python {platform.python_version()}, {versions}; segments of {options.segment_rows:,} rows\n")
    print("| bits | codes | data | contender | build codes/s | bytes/code | search µs | recall@10 |")
    print("|---|---|---|---|---|---|---|---|")
    for bits in options.bits:
        for count in sorted({100_000, options.codes} if options.codes > 100_000 else {options.codes}):
            for make in (planted, clustered):
                for row in contenders(make(bits, count, QUERIES), options):
                    print(f"| {bits} | {count:,} | {make.__name__} | {row}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.graphs", description=__doc__)
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--bits", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--segment-rows", type=int, default=100_000)
    parser.add_argument("--expansions", type=int, nargs="*", default=[], help="efSearch to try beside the default")
    parser.add_argument("--no-faiss", action="store_true")
    return parser.parse_args()


def contenders(workload: Workload, options: argparse.Namespace) -> Iterator[Row]:
    settings = settings_for(workload.codes.shape[1] * 64)
    with tempfile.TemporaryDirectory() as directory:
        sealed, built = sealed_in(Path(directory), workload.codes, options.segment_rows, settings)
        yield scanned("exact scan, C", kernels.compiled_range_scan, sealed, workload.queries)
        yield scanned("exact scan, numpy", kernels.numpy_range_scan, sealed, workload.queries)
        for expansion in (settings.expansion_search, *options.expansions):
            yield searched(sealed, built, workload.queries, msgspec.structs.replace(settings, expansion_search=expansion))
        if not options.no_faiss:
            yield faiss_row(sealed, workload.queries, recall(sealed, workload.queries, settings))


def sealed_in(directory: Path, codes: Codes, segment_rows: int, settings: GraphSettings) -> tuple[list[Sealed], float]:
    """Segments with graphs, and how many codes a second of the children's CPU time built."""
    before = children_s()
    sealed = seal(directory, codes, segment_rows, settings)
    return sealed, rows_of(sealed) / (children_s() - before)


def children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def rows_of(sealed: list[Sealed]) -> int:
    return sum(segment.columns.shape[1] for segment in sealed)


def scanned(name: str, scan: Scan, sealed: list[Sealed], queries: Codes) -> Row:
    radius = int(queries.shape[1] * 64 * (1 - SIMILARITY))
    search_us = median_us(
        queries, lambda query: [scan(segment.columns, segment.columns.shape[1], query[None], radius) for segment in sealed]
    )
    return Row(name, 0, queries.shape[1] * 8, search_us, 1)


def searched(sealed: list[Sealed], built: float, queries: Codes, settings: GraphSettings) -> Row:
    views = Views()
    paths = [(segment.path.with_suffix(".graph"), segment.graph.bits) for segment in sealed]

    def search(query: Codes) -> list[list[tuple[int, int]]]:
        body = query.astype(">u8").tobytes()
        return [views.search(path, bits, body, settings) for path, bits in paths]

    name = f"graphs, M {settings.connectivity}, efC {settings.expansion_add}, ef {settings.expansion_search}"
    code_bytes = sum(segment.graph.size for segment in sealed) / rows_of(sealed)
    return Row(name, built, code_bytes, median_us(queries, search), recall(sealed, queries, settings))


def faiss_row(sealed: list[Sealed], queries: Codes, wanted: float) -> Row:
    """With the least efSearch that finds as much as the graphs, or the largest that is tried."""
    index = faiss.IndexBinaryHNSW(queries.shape[1] * 64, FAISS_CONNECTIVITY)
    index.hnsw.efConstruction = FAISS_EXPANSION_ADD
    codes = np.concatenate([segment.columns.T for segment in sealed])
    started = time.process_time()
    index.add(as_bytes(codes))
    built = len(codes) / (time.process_time() - started)
    code_bytes = len(faiss.serialize_index_binary(index)) / len(codes)
    nearest = [exact_nearest(sealed, query) for query in queries]
    for expansion in FAISS_EXPANSIONS:
        index.hnsw.efSearch = expansion
        share = faiss_recall(index, queries, nearest)
        if share >= wanted:
            break
    name = f"faiss HNSW, M {FAISS_CONNECTIVITY}, efC {FAISS_EXPANSION_ADD}, ef {expansion}"
    return Row(name, built, code_bytes, median_us(queries, lambda query: index.search(as_bytes(query[None]), BEST)), share)


def faiss_recall(index: faiss.IndexBinaryHNSW, queries: Codes, nearest: list[list[int]]) -> float:
    distances = index.search(as_bytes(queries), BEST)[0]
    found = sum(min(len(best), int((row <= best[-1]).sum())) for row, best in zip(distances, nearest, strict=True) if best)
    return found / sum(map(len, nearest))


def median_us(queries: Codes, search: Callable[[Codes], object]) -> float:
    """After one round that opens files and fills caches."""
    search(queries[0])
    times = []
    for query in queries:
        started = time.thread_time()
        search(query)
        times.append(time.thread_time() - started)
    return statistics.median(times) * 1e6


if __name__ == "__main__":
    main()
