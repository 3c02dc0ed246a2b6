"""Local files that appear whole or not at all, and digests."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshots.errors import LocalFault, NoRoom

TEMPORARY = ".tmp"
STEP_BYTES = 256 << 10
"""What is read, and hashed or written, between two rests: a fraction of a millisecond."""
REST = 3.0
"""Seconds without work after each second of work of a checkpoint. A thread that computes without a pause keeps its processor for
milliseconds from the threads that search, however little it counts."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_whole(path: Path, body: bytes) -> None:
    """Writes under a temporary name, syncs, renames, syncs the directory."""
    temporary = path.with_name(path.name + TEMPORARY)
    with local_errors(path):
        try:
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes renames and new names in a directory survive a power failure."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Pace:
    """Rests of one thread, `rest` seconds for each second that it used a processor. Waiting for a disk is rest as it is."""

    def __init__(self, rest: float) -> None:
        self._rest = rest
        self._worked_s = time.thread_time()

    def step(self) -> None:
        """After each piece of work. Does nothing when there are no rests."""
        if self._rest:
            time.sleep(self._rest * (time.thread_time() - self._worked_s))
            self._worked_s = time.thread_time()


def digest_range(path: Path, start: int, length: int, *, rest: float = 0.0) -> str:
    """SHA-256 of a part of a file, in hexadecimal; of what is there when the file is shorter."""
    digest = hashlib.sha256()
    for step in _steps(path, start, length, rest):
        digest.update(step)
    return digest.hexdigest()


def digest_pieces(path: Path, size: int, piece_bytes: int, *, rest: float = 0.0) -> tuple[list[str], str]:
    """SHA-256 of each piece and of the whole, in one reading: both are of the same bytes."""
    whole = hashlib.sha256()
    pieces = []
    for start in range(0, size, piece_bytes):
        piece = hashlib.sha256()
        for step in _steps(path, start, min(piece_bytes, size - start), rest):
            piece.update(step)
            whole.update(step)
        pieces.append(piece.hexdigest())
    return pieces, whole.hexdigest()


def _steps(path: Path, start: int, length: int, rest: float) -> Iterator[memoryview]:
    """A part of a file, in one buffer that is filled again and again, with a rest after each."""
    left = length
    with local_errors(path), path.open("rb", buffering=0) as file:
        file.seek(start)
        buffer = memoryview(bytearray(min(STEP_BYTES, max(length, 1))))
        pace = Pace(rest)
        while left and (count := file.readinto(buffer[: min(left, len(buffer))])):
            yield buffer[:count]
            left -= count
            pace.step()


def sha256(body: bytes | memoryview) -> str:
    return hashlib.sha256(body).hexdigest()


@contextmanager
def local_errors(path: Path) -> Iterator[None]:
    """Errors of the local disk as ours."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise NoRoom(f"cannot write {path}: {error.strerror}; free space on the disk") from error
        raise LocalFault(f"cannot use {path}: {error.strerror}") from error
