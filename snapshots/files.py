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
READ_BYTES = 256 << 10
"""What is read, and hashed, at a time: with rests, nobody waits longer than that for a processor."""
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


def digest_range(path: Path, start: int, length: int, *, rest: float = 0.0) -> str:
    """SHA-256 of a part of a file, in hexadecimal; of what is there when the file is shorter. For each second that a processor had to
    work, it rests `rest` seconds."""
    digest = hashlib.sha256()
    left = length
    with local_errors(path), path.open("rb", buffering=0) as file:
        file.seek(start)
        buffer = memoryview(bytearray(min(READ_BYTES, max(length, 1))))
        began_s = time.thread_time()
        while left and (count := file.readinto(buffer[: min(left, len(buffer))])):
            digest.update(buffer[:count])
            left -= count
            if rest:
                time.sleep(rest * (time.thread_time() - began_s))
                began_s = time.thread_time()
    return digest.hexdigest()


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
