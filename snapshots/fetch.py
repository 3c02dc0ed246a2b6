"""Fetching the files of a manifest: many ranges at a time, written in place, each piece compared with its digest before it counts.

Blocks are written as they come, and what is hashed is read back from the file: no range is ever whole in memory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import msgspec

from snapshots.bucket import Bucket
from snapshots.errors import Corrupt, Missing, NoRoom
from snapshots.failpoints import reach
from snapshots.files import STEP_BYTES, digest_range, local_errors, sync_directory, write_whole
from snapshots.manifest import File, Manifest
from snapshots.paths import blob_key

RANGE_BYTES = 16 << 20
FETCHES = 16
AHEAD = 20
"""Ranges that are being fetched or wait to be hashed. So few that what was written is still in the page cache when it is hashed."""
ROOM_LEFT_BYTES = 64 << 20
STATE = "restore.json"


class Progress:
    """How far a restore is. Written by one thread, read by any."""

    def __init__(self) -> None:
        self.phase = "looking at the bucket"
        self.bytes_done = 0
        self.bytes_total = 0
        self._started = time.monotonic()
        self._fetched = 0

    def begin(self, phase: str, total: int) -> None:
        self.phase = phase
        self.bytes_done, self.bytes_total = 0, total
        self._started, self._fetched = time.monotonic(), 0

    def add(self, count: int, *, fetched: bool = True) -> None:
        """`fetched` is False for what was there already: it says nothing about the speed."""
        self.bytes_done += count
        self._fetched += count if fetched else 0

    def eta_s(self) -> float | None:
        """Seconds that are left at the speed so far."""
        spent = time.monotonic() - self._started
        if not self._fetched or not spent:
            return None
        return round((self.bytes_total - self.bytes_done) * spent / self._fetched, 1)


class _Range(msgspec.Struct, frozen=True):
    file: int
    piece: int
    start: int  # in the file
    length: int
    last: bool  # of its piece
    last_of_file: bool


def fetch(bucket: Bucket, manifest: Manifest, folder: Path, progress: Progress) -> None:
    """Fills `folder` with the files of the manifest, synced. What an earlier try left is used when it is right.

    Raises Corrupt, NoRoom, or what the bucket raises.
    """
    _prepare(manifest, folder)
    progress.begin("fetching", manifest.bytes)
    with ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") as pool:
        flight = _Flight(bucket, manifest, folder, progress, pool)
        try:
            for part in _missing_ranges(manifest, folder, progress):
                flight.begin(part)
            flight.land_all()
        finally:
            flight.give_up()
    with local_errors(folder):
        for file in manifest.files:
            path = folder / file.path
            _close(path, _open(path))  # also those that an earlier try, which was killed, left whole but perhaps not synced
        (folder / STATE).unlink()
        for directory in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
            sync_directory(directory)
    reach("restore.fetched")


class _Flight:
    """The ranges that are being fetched. They are hashed in order, so one digest is open at a time. One thread calls."""

    def __init__(self, bucket: Bucket, manifest: Manifest, folder: Path, progress: Progress, pool: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._files = manifest.files
        self._folder = folder
        self._progress = progress
        self._pool = pool
        self._waiting: deque[tuple[_Range, Future[None]]] = deque()
        self._syncing: list[Future[None]] = []
        self._handles: dict[int, int] = {}
        self._digest = hashlib.sha256()
        self._buffer = memoryview(bytearray(STEP_BYTES))

    def begin(self, part: _Range) -> None:
        while len(self._waiting) >= AHEAD:
            self._land()
        path = self._path(part)
        if part.file not in self._handles:
            self._handles[part.file] = _open(path)
        handle = self._handles[part.file]
        self._waiting.append((part, self._pool.submit(_fetch_range, self._bucket, self._files[part.file], path, handle, part)))

    def land_all(self) -> None:
        while self._waiting:
            self._land()
        for future in self._syncing:
            future.result()

    def give_up(self) -> None:
        """After an error: nothing runs any more, nothing is open."""
        for _, future in self._waiting:
            future.cancel()
        self._pool.shutdown()
        for handle in self._handles.values():
            os.close(handle)

    def _land(self) -> None:
        part, future = self._waiting.popleft()
        future.result()
        self._hash(part)
        self._progress.add(part.length)
        if part.last:
            _require(self._files[part.file], part.piece, self._digest.hexdigest())
            self._digest = hashlib.sha256()
            reach("restore.piece")
        if part.last_of_file:
            self._syncing.append(self._pool.submit(_close, self._path(part), self._handles.pop(part.file)))

    def _hash(self, part: _Range) -> None:
        handle, at, end = self._handles[part.file], part.start, part.start + part.length
        with local_errors(self._path(part)):
            while at < end and (count := os.preadv(handle, [self._buffer[: end - at]], at)):
                self._digest.update(self._buffer[:count])
                at += count

    def _path(self, part: _Range) -> Path:
        return self._folder / self._files[part.file].path


def _prepare(manifest: Manifest, folder: Path) -> None:
    """The folder with files of the right sizes. One of another manifest is emptied."""
    state = folder / STATE
    with local_errors(folder):
        if not state.exists() or state.read_text("ascii", "replace") != manifest.digest:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_whole(state, manifest.digest.encode())
        _require_room(manifest, folder)
        for file in manifest.files:
            path = _inside(folder, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as handle:
                handle.truncate(file.size)


def _inside(folder: Path, file: File) -> Path:
    """A manifest comes from outside: its names stay in the folder, and its files have all their pieces."""
    parts = file.path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts) or file.path == STATE:
        raise Corrupt(f"manifest names a file that cannot be in its folder path={file.path!r}")
    if file.size < 0 or file.piece_bytes < 1 or len(file.pieces) != -(-file.size // file.piece_bytes):
        raise Corrupt(f"manifest has {len(file.pieces)} pieces for {file.size} bytes path={file.path}")
    return folder.joinpath(*parts)


def _require_room(manifest: Manifest, folder: Path) -> None:
    status = os.statvfs(folder)
    free = status.f_bavail * status.f_frsize
    there = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    needed = manifest.bytes - min(there, manifest.bytes) + ROOM_LEFT_BYTES
    if free < needed:
        raise NoRoom(
            f"the disk of {folder} has {free >> 20} MB left and the restore needs {needed >> 20} MB: free space or take a larger disk"
        )


def _missing_ranges(manifest: Manifest, folder: Path, progress: Progress) -> Iterator[_Range]:
    """Ranges of the pieces that are not on the disk yet, in order."""
    for at, file in enumerate(manifest.files):
        missing = [number for number in range(len(file.pieces)) if not _there(file, number, folder, progress)]
        for number in missing:
            start = number * file.piece_bytes
            end = min(start + file.piece_bytes, file.size)
            for offset in range(start, end, RANGE_BYTES):
                length = min(RANGE_BYTES, end - offset)
                last = offset + length == end
                yield _Range(at, number, offset, length, last, last and number == missing[-1])


def _there(file: File, number: int, folder: Path, progress: Progress) -> bool:
    """Whether a piece is on the disk, as far as its digest tells. A file without blocks was never written."""
    path = folder / file.path
    start = number * file.piece_bytes
    length = min(file.piece_bytes, file.size - start)
    if path.stat().st_blocks == 0 or digest_range(path, start, length) != file.pieces[number]:
        return False
    progress.add(length, fetched=False)
    return True


def _fetch_range(bucket: Bucket, file: File, path: Path, handle: int, part: _Range) -> None:
    key = blob_key(file.pieces[part.piece])
    at = part.start

    def write(block: bytes) -> None:
        nonlocal at
        with local_errors(path):
            _write(handle, block, at)
        at += len(block)

    try:
        count = bucket.read(key, part.start - part.piece * file.piece_bytes, part.length, write)
    except Missing as error:
        raise Corrupt(f"a piece of {file.path} is missing in the bucket key={key}") from error
    if count != part.length:
        raise Corrupt(f"a piece of {file.path} is shorter than its manifest says key={key} bytes={count} expected={part.length}")
    if part.last and not part.last_of_file:
        with local_errors(path):
            os.fdatasync(handle)  # the disk writes while the rest is fetched, and little is left for the end


def _write(handle: int, data: bytes, start: int) -> None:
    """All of it: a disk that fills up takes a part without an error first."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(handle, rest, start)
        rest, start = rest[count:], start + count


def _require(file: File, piece: int, digest: str) -> None:
    if digest != file.pieces[piece]:
        raise Corrupt(f"a piece of {file.path} differs from its digest key={blob_key(file.pieces[piece])} found={digest}")


def _open(path: Path) -> int:
    with local_errors(path):
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _close(path: Path, handle: int) -> None:
    with local_errors(path):
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
