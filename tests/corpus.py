"""Seeded ISCC data for tests and benchmarks: assets in clusters of near-duplicates, as the JSON that clients send.

Each asset has four units: META, CONTENT, DATA and INSTANCE. The first three of a cluster's members differ from a common centre by 0 to
`flips` bits in every 64; INSTANCE is random. The same arguments give the same data on every machine.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Asset = dict[str, Any]

META, SEMANTIC, CONTENT, DATA, INSTANCE, ISCC, ID = range(7)
UNITS = (META, CONTENT, DATA, INSTANCE)
SIMPRINT_TYPE = "CONTENT_TEXT_V0"
_BASE32 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", np.uint8)
_FIRST_US = 1_700_000_000_000_000  # time of ISCC-ID number 0
_BATCH = 20_000


class Corpus:
    """Lives as long as a test or a run. Holds the bodies of all units as arrays; texts are made when asked for."""

    def __init__(
        self,
        seed: int,
        *,
        clusters: int,
        per_cluster: int,
        unit_bits: int | Sequence[int] = 256,
        flips: int = 12,
        media: Sequence[int] = (0,),
        realm: int = 0,
        first_id: int = 0,
        with_units: bool = True,
        with_codes: bool = False,
        simprints_per_asset: int = 0,
        simprint_bits: int = 128,
        simprints_shared: float = 1.0,
    ) -> None:
        """With several `unit_bits` each unit has one of these lengths; with several `media` (CONTENT sub types) each cluster has one.

        This share of an asset's simprints, taken at random, are near-duplicates of those at the same place in its cluster. The others are
        its own.
        """
        rng = np.random.default_rng(seed)
        self.size = clusters * per_cluster
        self.realm, self.first_id = realm, first_id
        self._with_units, self._with_codes = with_units, with_codes
        choices = np.atleast_1d(np.asarray(unit_bits, np.int64)) // 8
        self.lengths = rng.choice(choices, (self.size, len(UNITS)))
        self.media = np.repeat(rng.choice(np.asarray(media, np.uint8), clusters), per_cluster)
        widest = int(choices.max())
        self.bodies = np.empty((self.size, len(UNITS), widest), np.uint8)
        for place in range(len(UNITS) - 1):
            self.bodies[:, place] = _members(rng, clusters, per_cluster, widest, flips)
        self.bodies[:, -1] = _random_bytes(rng, (self.size, widest))
        self.simprints = np.empty((self.size, simprints_per_asset, simprint_bits // 8), np.uint8)
        for place in range(simprints_per_asset):
            self.simprints[:, place] = _members(rng, clusters, per_cluster, simprint_bits // 8, flips)
        if simprints_shared < 1:
            own = rng.random(self.simprints.shape[:2]) >= simprints_shared
            self.simprints[own] = _random_bytes(rng, (int(own.sum()), simprint_bits // 8))

    def assets(self, start: int = 0, stop: int | None = None) -> list[Asset]:
        return list(self._assets(start, self.size if stop is None else min(stop, self.size)))

    def batches(self, size: int = 100) -> Iterator[list[Asset]]:
        batch: list[Asset] = []
        for asset in self._assets(0, self.size):
            batch.append(asset)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def queries(self, seed: int, count: int, *, flips: int = 6) -> list[Asset]:
        """Bodies of search requests: units of members taken at random, 0 to `flips` bits in every 64 flipped, and a new INSTANCE."""
        rng = np.random.default_rng(seed)
        rows = rng.integers(0, self.size, count)
        bodies = self.bodies[rows]
        bodies[:, :-1] ^= _noise(rng, (count, len(UNITS) - 1, bodies.shape[2]), flips)
        bodies[:, -1] = _random_bytes(rng, (count, bodies.shape[2]))
        return [{"units": units} for units in self._unit_texts(bodies, rows)]

    def simprint_queries(self, seed: int, count: int, length: int, *, flips: int = 6) -> list[Asset]:
        """Bodies of search requests: `length` simprints in a row of assets taken at random, 0 to `flips` bits in every 64 flipped."""
        rng = np.random.default_rng(seed)
        _, places, size = self.simprints.shape
        rows, starts = rng.integers(0, self.size, count), rng.integers(0, places - length + 1, count)
        bodies = self.simprints[rows[:, None], starts[:, None] + np.arange(length)] ^ _noise(rng, (count, length, size), flips)
        return [{"simprints": {SIMPRINT_TYPE: [_simprint_text(body) for body in run]}} for run in bodies]

    def body(self, row: int, place: int) -> bytes:
        """The body of unit `UNITS[place]` of the asset with this number."""
        return self.bodies[row, place, : self.lengths[row, place]].tobytes()

    def _assets(self, start: int, stop: int) -> Iterator[Asset]:
        for first in range(start, stop, _BATCH):
            rows = np.arange(first, min(first + _BATCH, stop))
            members: dict[str, Sequence[Any]] = {"iscc_id": iscc_ids(rows + self.first_id, self.realm)}
            if self._with_codes:
                members["iscc_code"] = self._code_texts(rows)
            if self._with_units:
                members["units"] = self._unit_texts(self.bodies[rows], rows)
            if self.simprints.shape[1]:
                members["simprints"] = [{SIMPRINT_TYPE: _simprint_list(bodies)} for bodies in self.simprints[rows]]
            members["metadata"] = [{"name": f"asset {row}"} for row in rows]
            for values in zip(*members.values(), strict=True):
                yield dict(zip(members, values, strict=True))

    def _unit_texts(self, bodies: Bytes, rows: npt.NDArray[np.int64]) -> list[list[str]]:
        """The texts of the units of each row, one length at a time."""
        texts = np.empty((len(rows), len(UNITS)), object)
        for place, main_type in enumerate(UNITS):
            first = np.full(len(rows), main_type << 4, np.uint8) | (self.media[rows] if main_type == CONTENT else np.uint8(0))
            for size in np.unique(self.lengths[rows, place]):
                at = np.flatnonzero(self.lengths[rows, place] == size)
                texts[at, place] = base32_texts(_with_header(first[at], int(size) // 4 - 1, bodies[at, place, :size]))
        return texts.tolist()

    def _code_texts(self, rows: npt.NDArray[np.int64]) -> list[str]:
        bodies = np.ascontiguousarray(self.bodies[rows, :, :8]).reshape(len(rows), -1)
        return base32_texts(_with_header(np.uint8(ISCC << 4) | self.media[rows], 5, bodies))


def iscc_id(number: int, realm: int = 0) -> str:
    """ISCC-IDs ascend with their number."""
    return iscc_ids(np.asarray([number]), realm)[0]


def iscc_ids(numbers: npt.NDArray[np.int64], realm: int = 0) -> list[str]:
    keys = ((numbers.astype(np.uint64) + np.uint64(_FIRST_US)) << np.uint64(12)).astype(">u8").view(np.uint8).reshape(-1, 8)
    return base32_texts(_with_header(np.full(len(keys), ID << 4 | realm, np.uint8), 0x10, keys))


def unit(main_type: int, sub_type: int, body: bytes) -> str:
    return "ISCC:" + base64.b32encode(bytes([main_type << 4 | sub_type, len(body) // 4 - 1]) + body).decode().rstrip("=")


def simprints(rng: np.random.Generator, count: int, bits: int) -> list[dict[str, Any]]:
    """Simprints of one asset and type, all random."""
    return _simprint_list(_random_bytes(rng, (count, bits // 8)))


def base32_texts(raws: Bytes) -> list[str]:
    """`ISCC:` and base32 without padding of every row."""
    rows, size = raws.shape
    groups = np.zeros((rows, -(-size // 5) * 5), np.uint8)
    groups[:, :size] = raws
    b0, b1, b2, b3, b4 = np.moveaxis(groups.reshape(rows, -1, 5), 2, 0)
    digits = (
        *(b0 >> 3, b0 << 2 | b1 >> 6, b1 >> 1, b1 << 4 | b2 >> 4),
        *(b2 << 1 | b3 >> 7, b3 >> 2, b3 << 3 | b4 >> 5, b4),
    )
    texts = _BASE32[np.stack(digits, axis=2) & 31].reshape(rows, -1)[:, : -(-size * 8 // 5)]
    prefix = np.broadcast_to(np.frombuffer(b"ISCC:", np.uint8), (rows, 5))
    whole = np.ascontiguousarray(np.concatenate((prefix, texts), axis=1))
    return whole.view(f"S{whole.shape[1]}").ravel().astype(str).tolist()


def _with_header(first: Bytes, second: int, bodies: Bytes) -> Bytes:
    return np.concatenate((first[:, None], np.full((len(first), 1), second, np.uint8), bodies), axis=1)


def _members(rng: np.random.Generator, clusters: int, per_cluster: int, size: int, flips: int) -> Bytes:
    centres = np.repeat(_random_bytes(rng, (clusters, size)), per_cluster, axis=0)
    return centres ^ _noise(rng, centres.shape, flips)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], flips: int) -> Bytes:
    """Masks with up to `flips` bits set in every 64: a number drawn for each word, less the bits that are drawn twice."""
    words = (*shape[:-1], shape[-1] // 8)
    wanted = rng.integers(0, flips + 1, words, np.uint8)
    mask = np.zeros(words, np.uint64)
    for flip in range(flips):
        bit = np.uint64(1) << rng.integers(0, 64, words, np.uint8).astype(np.uint64)
        mask |= np.where(wanted > flip, bit, np.uint64(0))
    return mask.astype(">u8").view(np.uint8).reshape(shape)


def _random_bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> Bytes:
    return rng.integers(0, 256, shape, np.uint8)


def _simprint_list(bodies: Bytes) -> list[dict[str, Any]]:
    return [{"simprint": _simprint_text(body), "offset": place * 1000, "size": 1000} for place, body in enumerate(bodies)]


def _simprint_text(body: Bytes) -> str:
    return base64.urlsafe_b64encode(body.tobytes()).decode().rstrip("=")
