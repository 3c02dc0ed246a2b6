"""Codes with known neighbours, the graphs over them, and how much of what the exact scan finds the graphs find too."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.engine import kernels
from service.engine.graphs import Builder, GraphFile, GraphSettings, Views

SIMILARITY = 0.75
BEST = 10
COPIES = 20_000
CLUSTER_ROWS = 20
CROWDS = 4

Codes = NDArray[np.uint64]


class Workload(NamedTuple):
    """Codes and queries, one row each."""

    codes: Codes
    queries: Codes


class Sealed(NamedTuple):
    """A segment file, its columns, and its graph."""

    path: Path
    columns: Codes
    graph: GraphFile


def planted(bits: int, count: int, queries: int) -> Workload:
    """Random codes. Each query is one of them with any number of bits changed that still matches."""
    generator = np.random.default_rng([bits, 1])
    codes = random_codes(generator, bits, count)
    return Workload(codes, flipped(generator, codes[generator.integers(0, count, queries)], bits // 4))


def clustered(bits: int, count: int, queries: int) -> Workload:
    """Codes and queries around common centres, up to 3/16 of the bits away from them."""
    generator = np.random.default_rng([bits, 2])
    centres = random_codes(generator, bits, count // CLUSTER_ROWS)
    near = centres[generator.integers(0, len(centres), count + queries)]
    changed = flipped(generator, near, bits * 3 // 16)
    return Workload(changed[:count], changed[count:])


def crowded(bits: int, count: int, queries: int) -> Workload:
    """Half of the codes are random, the others crowd around four centres, closer together than a graph has edges to tell apart."""
    generator = np.random.default_rng([bits, 4])
    centres = random_codes(generator, bits, CROWDS)
    crowds = flipped(generator, centres[generator.integers(0, CROWDS, count // 2)], bits // 16)
    near = flipped(generator, centres[generator.integers(0, CROWDS, queries)], bits // 16)
    return Workload(np.concatenate([random_codes(generator, bits, count - count // 2), crowds]), near)


def with_copies(workload: Workload, copies: int = COPIES) -> Workload:
    """One body many times more, codes close to it, and queries for both: what a graph of all assets instead of all codes loses."""
    generator = np.random.default_rng(3)
    body = workload.codes[:1]
    bits = body.shape[1] * 64
    close = flipped(generator, np.repeat(body, 2 * BEST, axis=0), bits // 8)
    queries = np.concatenate([body, close, flipped(generator, close, bits // 16)])
    return Workload(np.concatenate([workload.codes, np.repeat(body, copies, axis=0), close]), np.concatenate([workload.queries, queries]))


def random_codes(generator: np.random.Generator, bits: int, count: int) -> Codes:
    return generator.integers(0, 2**64, (count, bits // 64), np.uint64)


def flipped(generator: np.random.Generator, codes: Codes, most: int) -> Codes:
    """Each code with 0 to `most` bits changed: each steps through its bits by an odd number, so none is met twice."""
    codes = codes.copy()
    count, bits = len(codes), codes.shape[1] * 64
    changes = generator.integers(0, most + 1, count)
    first, step = generator.integers(0, bits, count), generator.integers(0, bits // 2, count) * 2 + 1
    for number in range(most):
        rows = np.flatnonzero(changes > number)
        places = (first[rows] + number * step[rows]) % bits
        codes[rows, places // 64] ^= np.uint64(1) << (places % 64).astype(np.uint64)
    return codes


def split_sorted(codes: Codes, segment_rows: int) -> list[Codes]:
    """The columns of the segments that these codes, in the order of their arrival, would be sealed into."""
    distinct, first = np.unique(codes, axis=0, return_index=True)
    arrived = distinct[np.argsort(first)]
    parts = [arrived[start : start + segment_rows] for start in range(0, len(arrived), segment_rows)]
    return [np.ascontiguousarray(part[np.lexsort(part.T[::-1])].T) for part in parts]


def write_segment(path: Path, columns: Codes) -> Path:
    path.write_bytes(columns.tobytes())
    return path


def seal(directory: Path, codes: Codes, segment_rows: int, settings: GraphSettings) -> list[Sealed]:
    """Segments with graphs over all their bits."""
    builder = Builder()
    sealed = []
    for number, columns in enumerate(split_sorted(codes, segment_rows)):
        path = write_segment(directory / f"{number}.segment", columns)
        words, rows = columns.shape
        graph = builder.build(path, rows, words, words * 64, directory / f"{number}.graph", settings)
        sealed.append(Sealed(path, columns, graph))
    return sealed


def recall(sealed: list[Sealed], queries: Codes, settings: GraphSettings) -> float:
    """Of the best ten matches that the exact scan finds, the share that the graphs find. What ties with the tenth is as good as it."""
    views = Views()
    found = wanted = 0
    for query in queries:
        nearest = exact_nearest(sealed, query)
        if len(nearest):
            found += min(len(nearest), sum(distance <= nearest[-1] for distance in graph_distances(views, sealed, query, settings)))
            wanted += len(nearest)
    return found / wanted


def exact_nearest(sealed: list[Sealed], query: Codes) -> list[int]:
    """Distances of the best ten matches."""
    radius = int(len(query) * 64 * (1 - SIMILARITY))
    distances = [kernels.range_scan(segment.columns, segment.columns.shape[1], query[None], radius).distance for segment in sealed]
    return sorted(np.concatenate(distances).tolist())[:BEST]


def graph_distances(views: Views, sealed: list[Sealed], query: Codes, settings: GraphSettings) -> list[int]:
    """Distances of all that the graphs return, computed from the stored bodies of distinct rows."""
    body = query.astype(">u8").tobytes()
    distances: list[int] = []
    for segment in sealed:
        rows = [row for row, _ in views.search(segment.path.with_suffix(".graph"), segment.graph.bits, body, settings)]
        assert len(set(rows)) == len(rows)
        distances += np.bitwise_count(segment.columns[:, rows] ^ query[:, None]).sum(axis=0, dtype=np.int64).tolist()
    return distances
