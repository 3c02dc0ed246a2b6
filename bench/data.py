"""Seeded ISCC assets and queries as arrays, made fast enough for a million of them.

Half of the assets stand alone, the others in clusters of near-duplicates: each member is its cluster's centre with some bits flipped.
A query is a member with further bits flipped. The same seed, size and bits give the same bytes everywhere.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

UNIT_TYPES = {"META_NONE_V0": 0x00, "CONTENT_TEXT_V0": 0x20, "DATA_NONE_V0": 0x30, "INSTANCE_NONE_V0": 0x40}
"""Unit types in the order of the bodies, with the first header byte of each."""
SIMILAR_TYPES = 3
"""So many of them are compared by distance; the last is INSTANCE, compared by identity."""
ID_HEADER = b"\x60\x10"
CODE_HEADER = b"\x50\x05"  # text; META, CONTENT, DATA and INSTANCE, 64 bits of each
FIRST_TIME_US = 1_700_000_000_000_000
CLUSTER_SIZE_MAX = 24
CLUSTER_NOISE_MAX = 0.10
QUERY_NOISE_MAX = 0.08
CHUNK_ROWS = 20_000
ALPHABET = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", dtype=np.uint8)


class Assets(msgspec.Struct, frozen=True):
    """`bodies` has one array for each unit type, one row for each asset; `clusters` says which cluster an asset is in, -1 for none."""

    keys: NDArray[np.uint64]
    bodies: list[Bytes]
    clusters: Ints

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, start: int, stop: int) -> Assets:
        return Assets(self.keys[start:stop], [body[start:stop] for body in self.bodies], self.clusters[start:stop])


class Queries(msgspec.Struct, frozen=True):
    """Bodies as in Assets: one row for each query."""

    bodies: list[Bytes]

    def __len__(self) -> int:
        return len(self.bodies[0])


def make_assets(count: int, bits: int, seed: int) -> Assets:
    rng = np.random.default_rng([seed, count, bits])
    clusters = _clusters(count, rng)
    bodies = [_members(clusters, bits // 8, rng) for _ in range(SIMILAR_TYPES)]
    bodies.append(_instances(clusters, bits // 8, rng))
    times = FIRST_TIME_US + np.cumsum(rng.integers(1, 5_000, count, dtype=np.uint64))
    return Assets((times << np.uint64(12)) | np.uint64(1), bodies, clusters)


def make_queries(assets: Assets, count: int, seed: int) -> Queries:
    rng = np.random.default_rng([seed, len(assets), count])
    clustered = np.flatnonzero(assets.clusters >= 0)
    chosen = rng.choice(clustered, count)
    noise = rng.uniform(0, QUERY_NOISE_MAX, count).astype(np.float32)
    bodies = [_flip(assets.bodies[i][chosen], noise, rng) for i in range(SIMILAR_TYPES)]
    instances = assets.bodies[-1][chosen]
    changed = rng.random(count) < 0.7
    instances[changed] = rng.integers(0, 256, (int(changed.sum()), instances.shape[1]), dtype=np.uint8)
    return Queries([*bodies, instances])


def _clusters(count: int, rng: np.random.Generator) -> Ints:
    clustered = count // 2
    sizes = rng.integers(2, CLUSTER_SIZE_MAX + 1, clustered // 2 + 1)
    numbers = np.repeat(np.arange(len(sizes)), sizes)[:clustered]
    clusters = np.concatenate([numbers, np.full(count - clustered, -1)]).astype(np.int64)
    rng.shuffle(clusters)
    return clusters


def _members(clusters: Ints, length: int, rng: np.random.Generator) -> Bytes:
    centres = rng.integers(0, 256, (int(clusters.max()) + 1, length), dtype=np.uint8)
    noise_of_cluster = rng.uniform(0, CLUSTER_NOISE_MAX, len(centres)).astype(np.float32)
    bodies = rng.integers(0, 256, (len(clusters), length), dtype=np.uint8)
    for start in range(0, len(clusters), CHUNK_ROWS):
        members = start + np.flatnonzero(clusters[start : start + CHUNK_ROWS] >= 0)
        noise = noise_of_cluster[clusters[members]]
        noise[rng.random(len(members)) < 0.1] = 0  # identical bodies are one code with several postings
        bodies[members] = _flip(centres[clusters[members]], noise, rng)
    return bodies


def _instances(clusters: Ints, length: int, rng: np.random.Generator) -> Bytes:
    bodies = rng.integers(0, 256, (len(clusters), length), dtype=np.uint8)
    originals = rng.integers(0, 256, (int(clusters.max()) + 1, length), dtype=np.uint8)
    copies = np.flatnonzero((clusters >= 0) & (rng.random(len(clusters)) < 0.05))
    bodies[copies] = originals[clusters[copies]]
    return bodies


def _flip(bodies: Bytes, noise: NDArray[np.float32], rng: np.random.Generator) -> Bytes:
    flips = rng.random((len(bodies), bodies.shape[1] * 8), dtype=np.float32) < noise[:, None]
    return bodies ^ np.packbits(flips, axis=1)


def base32_rows(header: bytes, bodies: Bytes) -> list[str]:
    """`ISCC:` and the base32 text of header and body of every row; the standard library takes minutes for a million of them."""
    length = len(header) + bodies.shape[1]
    rows = np.zeros((len(bodies), -(-length // 5) * 5), dtype=np.uint8)
    rows[:, : len(header)] = np.frombuffer(header, dtype=np.uint8)
    rows[:, len(header) : length] = bodies
    groups = np.unpackbits(rows, axis=1).reshape(len(bodies), -1, 5)
    digits = groups @ np.array([16, 8, 4, 2, 1], dtype=np.uint8)
    text: str = ALPHABET[digits].tobytes().decode("ascii")
    width, used = digits.shape[1], -(-length * 8 // 5)
    return ["ISCC:" + text[start : start + used] for start in range(0, len(text), width)]


def id_texts(assets: Assets) -> list[str]:
    return base32_rows(ID_HEADER, assets.keys.astype(">u8").view(np.uint8).reshape(-1, 8))


def unit_texts(bodies: list[Bytes]) -> list[list[str]]:
    """For every row its units as text, in the order of the bodies."""
    columns = [base32_rows(bytes([first, body.shape[1] // 4 - 1]), body) for first, body in zip(UNIT_TYPES.values(), bodies, strict=False)]
    return [list(row) for row in zip(*columns, strict=True)]


def code_texts(assets: Assets) -> list[str]:
    return base32_rows(CODE_HEADER, np.concatenate([body[:, :8] for body in assets.bodies], axis=1))
