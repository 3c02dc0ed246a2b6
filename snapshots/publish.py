"""Checkpoints: a copy of the data and its sealed files into the bucket, then the manifest that names them.

Everything that a manifest names is in the bucket before the manifest is created.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import msgspec

from snapshots.bucket import Bucket
from snapshots.claim import fenced_by
from snapshots.errors import Rotten, Unreachable
from snapshots.failpoints import reach
from snapshots.files import REST, digest_pieces, digest_range
from snapshots.log import Place
from snapshots.manifest import PIECE_BYTES, File, Manifest, Parent
from snapshots.paths import blob_key
from snapshots.prefix import Prefix

UPLOADS = 4
NICE = 10
YOUNG_S = 12 * 3600
"""A blob that was there already and is older is written again: a sweep spares what is young."""


class CopiedFile(msgspec.Struct, frozen=True):
    """One file of a copy. `sha256` when it is known already."""

    path: str
    size: int
    sha256: str | None


class Copy(msgspec.Struct, frozen=True):
    """A consistent set of files at one sequence."""

    sequence: int
    time_us: int
    counts: dict[str, int]
    files: list[CopiedFile]


class Source(Protocol):
    """What is copied."""

    def export(self, target: Path) -> Copy:
        """Writes the copy to a new directory. Links or copies, as it likes."""

    def facts(self) -> dict[str, str]:
        """Format and versions, for the manifest."""


class Owner(msgspec.Struct, frozen=True):
    """In whose name a manifest is created."""

    lineage: str
    epoch: int
    writer: str
    host: str
    parent: Parent | None


class Published(msgspec.Struct, frozen=True):
    """A checkpoint, and what it cost."""

    manifest: Manifest
    uploaded_bytes: int
    known_bytes: int
    seconds: dict[str, float]
    """By phase: copy, hash, upload, publish."""


def publish(
    prefix: Prefix,
    source: Source,
    folder: Path,
    newest: Manifest | None,
    owner: Owner,
    log_end: Callable[[], Place],
    wait_shipped: Callable[[int], None],
    damaged: frozenset[str] = frozenset(),
    *,
    piece_bytes: int = PIECE_BYTES,
) -> Published:
    """Makes a checkpoint. `folder` is made and removed. Of `damaged`, blobs that are missing or wrong, it writes again what it needs.

    Raises Fenced, Unreachable, Rotten for a sealed file that is not what it was, or what the source raises.
    """
    clear(folder)
    watch = Stopwatch()
    try:
        behind = log_end()  # before the copy: the copy has at least these rows
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="checkpoint", initializer=_yield_to_others) as pool:
            copy = pool.submit(source.export, folder).result()
            watch.lap("copy")
            reach("publish.copied")
            files = pool.submit(_cut, folder, copy.files, piece_bytes).result()
            watch.lap("hash")
            reach("publish.hashed")
            known = newest.pieces - damaged if newest is not None else set()
            sealed = {file.path for file in copy.files if file.sha256 is not None}
            uploaded = _upload(pool, prefix.bucket, folder, files, known, sealed, damaged)
            watch.lap("upload")
        reach("publish.uploaded")
        wait_shipped(copy.sequence)
        manifest = _create(prefix, newest.generation + 1 if newest is not None else 1, _manifest(source, owner, copy, behind, files))
        reach("publish.manifest")
        prefix.update_hint(manifest, log_end().number, manifest.created_us)
        reach("publish.hint")
        watch.lap("publish")
        return Published(manifest, uploaded, manifest.bytes - uploaded, watch.laps)
    finally:
        clear(folder)


def _yield_to_others() -> None:
    """The threads that copy, hash and send: searches and writes come first."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def _manifest(source: Source, owner: Owner, copy: Copy, behind: Place, files: list[File]) -> Manifest:
    return Manifest(
        kind="checkpoint",
        lineage=owner.lineage,
        epoch=owner.epoch,
        generation=0,
        writer=owner.writer,
        host=owner.host,
        created_us=time.time_ns() // 1000,
        base_generation=0,
        base_sequence=copy.sequence,
        base_time_us=copy.time_us,
        log=behind,
        engine=source.facts(),
        counts=copy.counts,
        files=files,
        parent=owner.parent,
    )


def _create(prefix: Prefix, generation: int, manifest: Manifest) -> Manifest:
    """Under the next generation. One that this owner created without learning of it (its answer was lost) is left behind. Raises Fenced."""
    while True:
        created = prefix.create_manifest(msgspec.structs.replace(manifest, generation=generation, base_generation=generation))
        if created is not None:
            return created
        other = prefix.manifest_or_none(generation)
        if other is None or other.writer != manifest.writer:
            raise fenced_by(prefix, generation)
        generation += 1


def clear(folder: Path) -> None:
    """Removes what an earlier copy left."""
    shutil.rmtree(folder, ignore_errors=True)


class Stopwatch:
    """Seconds of each phase."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name] = round(now - self._last, 4)
        self._last = now


def _cut(folder: Path, files: Sequence[CopiedFile], piece_bytes: int) -> list[File]:
    """The pieces of each file. A digest that is known is not computed again."""
    return [File(file.path, file.size, _pieces(folder / file.path, file, piece_bytes), piece_bytes) for file in files]


def _pieces(path: Path, file: CopiedFile, piece_bytes: int) -> list[str]:
    """Digests of pieces are of today. What was sealed is whole when all of it together is what it was: raises Rotten when it is not."""
    if file.sha256 is not None and 0 < file.size <= piece_bytes:
        return [file.sha256]
    if file.sha256 is None:
        return [digest_range(path, start, min(piece_bytes, file.size - start), rest=REST) for start in range(0, file.size, piece_bytes)]
    pieces, whole = digest_pieces(path, file.size, piece_bytes, rest=REST)
    _require(path, file.sha256, whole)
    return pieces


def _require(path: Path, expected: str, found: str) -> None:
    if found != expected:
        raise Rotten(f"a sealed file differs from its digest path={path} expected={expected} found={found}", path)


class _Piece(msgspec.Struct, frozen=True):
    digest: str
    path: Path
    start: int
    length: int
    sealed: bool
    """The digest may be of the day on which the file was sealed."""
    damaged: bool
    """The blob that is there, if any, is not what its name says."""


def _upload(
    pool: ThreadPoolExecutor,
    bucket: Bucket,
    folder: Path,
    files: Sequence[File],
    known: Set[str],
    sealed: Set[str],
    damaged: Set[str],
) -> int:
    """Bytes that were sent."""
    wanted: dict[str, _Piece] = {}
    for file in files:
        for number, digest in enumerate(file.pieces):
            start = number * file.piece_bytes
            length = min(file.piece_bytes, file.size - start)
            if digest not in known:
                wanted[digest] = _Piece(digest, folder / file.path, start, length, file.path in sealed, digest in damaged)
    futures = [pool.submit(_upload_piece, bucket, piece) for piece in wanted.values()]
    try:
        return sum(future.result() for future in futures)
    finally:
        for future in futures:
            future.cancel()


def _upload_piece(bucket: Bucket, piece: _Piece) -> int:
    """A sealed file is hashed once more before it is sent: a blob is never wrong."""
    key = blob_key(piece.digest)
    there = bucket.head(key)
    if not piece.damaged and there is not None and there.size == piece.length and time.time() - there.modified_s < YOUNG_S:
        return 0
    found = digest_range(piece.path, piece.start, piece.length, rest=REST) if piece.sealed else piece.digest
    _require(piece.path, piece.digest, found)
    bucket.put_file(key, piece.path, piece.start, piece.length)
    reach("publish.blob")
    stored = bucket.head(key)
    if stored is None or stored.size != piece.length:
        raise Unreachable(f"the bucket took a blob and does not have it key={key} bytes={piece.length}")
    return piece.length
