"""A prefix in a directory, made step by step at times that the test chooses: real manifests, log objects with rows, fences and blobs.

`Maker` writes what an owner would write, and sets the modified times of the files to match, so that the store's clock agrees.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

import msgspec

from snapshots.claim import create_fence
from snapshots.directory import DirectoryBucket
from snapshots.errors import Missing
from snapshots.files import sha256
from snapshots.log import START, Header, Place, Row, freeze
from snapshots.manifest import EMPTY_LOG, File, Manifest, Parent
from snapshots.paths import blob_key, log_key, manifest_key
from snapshots.prefix import Prefix
from snapshots.publish import YOUNG_S

SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US
NOON_US = 20_000 * DAY_US + 12 * HOUR_US
"""Some noon, for tests that choose their times."""
PIECE_BYTES = 1000


class Maker:
    """One owner after the other of one prefix. Every step takes the time at which it happens."""

    def __init__(self, root: Path, now_us: int = NOON_US, seed: int = 0) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root
        self.bucket = DirectoryBucket(root)
        self.prefix = Prefix(self.bucket)
        self.chance = random.Random(seed)
        self.lineage = self._id()
        self.writer = ""
        self.epoch = 0
        self.end = EMPTY_LOG
        self.parent: Parent | None = None
        self.manifests: list[Manifest] = []
        self.prefix.initialise("test", now_us)

    @property
    def newest(self) -> Manifest:
        return self.manifests[-1]

    def begin(self, at_us: int) -> Manifest:
        """The first manifest of an index that is empty, and its fence."""
        return self._own(self._manifest("claim", at_us, EMPTY_LOG, [], 0, 0, 0), at_us)

    def claim(self, at_us: int) -> Manifest:
        """A new owner of the same lineage."""
        newest = self.newest
        wanted = self._manifest("claim", at_us, newest.log, newest.files, newest.base_generation, newest.base_sequence, newest.base_time_us)
        return self._own(msgspec.structs.replace(wanted, counts=newest.counts), at_us)

    def ship(self, at_us: int, rows: int = 1, size: int = 100) -> Place:
        """A log object. Its rows are committed at that time too."""
        first = self.end.sequence + 1
        made = [Row(first + number, at_us, self.chance.randbytes(size)) for number in range(rows)]
        header = Header(
            lineage=self.lineage,
            epoch=self.epoch,
            writer=self.writer,
            number=self.end.number + 1,
            previous=self.end.digest,
            first=first,
            last=first + rows - 1,
            rows=rows,
            created_us=at_us,
            bytes_before=self.end.bytes,
        )
        body, digest = freeze(header, made)
        self._create(log_key(self.lineage, header.number), body, at_us)
        self.end = Place(header.number, digest, header.last, self.end.bytes + len(body))
        return self.end

    def checkpoint(self, at_us: int, files: Mapping[str, bytes] | None = None, base_time_us: int | None = None) -> Manifest:
        """A base of all that was shipped. Without `files`, one whose bytes nobody else has."""
        stored = [self.store(path, body, at_us) for path, body in (files or {"data.mdb": self.chance.randbytes(2500)}).items()]
        generation = self.newest.generation + 1 if self.manifests else 1
        base_time_us = at_us if base_time_us is None else base_time_us
        wanted = self._manifest("checkpoint", at_us, self.end, stored, generation, self.end.sequence, base_time_us)
        return self._publish(msgspec.structs.replace(wanted, counts={"assets": self.end.sequence}), at_us)

    def leave(self, at_us: int) -> Manifest:
        """Another lineage takes over with a checkpoint, as `--adopt-local` does."""
        fence = create_fence(self.prefix, self.lineage, self.epoch + 1, "leaver", self.end, at_us)
        assert fence is not None
        self.date(log_key(self.lineage, fence.number), at_us)
        self.parent = Parent(self.lineage, self.end.sequence)
        self.lineage = self._id()
        self.end = Place(0, START, self.end.sequence)
        self.epoch += 1
        self.writer = self._id()
        made = self.checkpoint(at_us)
        self.fence(at_us)
        return made

    def store(self, path: str, body: bytes, at_us: int) -> File:
        """The blobs of a file, as a checkpoint uploads them: one that the newest manifest names or that is young is not written again."""
        pieces = [body[start : start + PIECE_BYTES] for start in range(0, len(body), PIECE_BYTES)]
        known = self.newest.pieces if self.manifests else set()
        for piece in pieces:
            key = blob_key(sha256(piece))
            there = self.bucket.head(key)
            if sha256(piece) in known or (there is not None and at_us / 1e6 - there.modified_s < YOUNG_S):
                continue
            self.bucket.replace(key, piece)
            self.date(key, at_us)
        return File(path, len(body), [sha256(piece) for piece in pieces], PIECE_BYTES)

    def fence(self, at_us: int) -> Place:
        place = create_fence(self.prefix, self.lineage, self.epoch, self.writer, self.end, at_us)
        assert place is not None
        self.date(log_key(self.lineage, place.number), at_us)
        self.end = place
        return place

    def date(self, key: str, at_us: int) -> None:
        """When the store says that an object was written."""
        os.utime(self.root / key, (at_us / 1e6, at_us / 1e6))

    def keys(self, folder: str) -> list[str]:
        """Names of the objects that are there."""
        return [entry.key for entry in self.bucket.list(folder)]

    def log_numbers(self, lineage: str | None = None) -> list[int]:
        return [int(key[-24:-4]) for key in self.keys(f"v1/log/{lineage or self.lineage}/")]

    def bytes_of(self, manifest: Manifest) -> dict[str, bytes]:
        """The files of a manifest, put together from the bucket. Raises Missing or AssertionError when they are not whole."""
        found = {}
        for file in manifest.files:
            body = b"".join(self.bucket.get(blob_key(digest)) for digest in file.pieces)
            if len(body) != file.size or any(sha256(self.bucket.get(blob_key(digest))) != digest for digest in file.pieces):
                raise AssertionError(f"{file.path} is not whole")
            found[file.path] = body
        return found

    def is_whole(self, manifest: Manifest) -> bool:
        try:
            self.bytes_of(manifest)
        except Missing:
            return False
        return True

    def _manifest(
        self, kind: str, at_us: int, log: Place, files: list[File], base_generation: int, base_sequence: int, base_time_us: int
    ) -> Manifest:
        return Manifest(
            kind=kind,
            lineage=self.lineage,
            epoch=self.epoch,
            generation=self.newest.generation + 1 if self.manifests else 1,
            writer=self.writer,
            host="test",
            created_us=at_us,
            base_generation=base_generation,
            base_sequence=base_sequence,
            base_time_us=base_time_us,
            log=log,
            engine={"format": "1"},
            counts={},
            files=files,
            parent=self.parent,
        )

    def _own(self, wanted: Manifest, at_us: int) -> Manifest:
        self.epoch += 1
        self.writer = self._id()
        made = self._publish(msgspec.structs.replace(wanted, epoch=self.epoch, writer=self.writer), at_us)
        self.fence(at_us)
        return made

    def _publish(self, wanted: Manifest, at_us: int) -> Manifest:
        made = self.prefix.create_manifest(wanted)
        assert made is not None
        self.date(manifest_key(made.generation), at_us)
        self.prefix.update_hint(made, self.end.number, at_us)
        self.manifests.append(made)
        return made

    def _create(self, key: str, body: bytes, at_us: int) -> None:
        assert self.bucket.create(key, body)
        self.date(key, at_us)

    def _id(self) -> str:
        return self.chance.randbytes(16).hex()
