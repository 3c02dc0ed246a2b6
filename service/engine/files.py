"""Files that appear whole or not at all, and the lock on the data directory.

A file becomes visible by: write to a temporary name, fsync, rename, fsync the directory. This module does that for everybody.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from service.engine.errors import Locked, NoSpace, Unwritable

TEMPORARY = ".tmp"
LIVE, SEGMENTS, CLEAN, LOCK = "live", "segments", "clean", "tidepool.lock"
"""Names in a data directory: LMDB and what follows from it, the sealed files in there, the mark of a stop in order, the lock."""
HASH_BYTES = 1 << 20
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def publish(path: Path, parts: Iterable[bytes | memoryview]) -> bytes:
    """Writes `parts` to `path` and returns their SHA-256. On an error nothing is left behind."""
    temporary = path.with_name(path.name + TEMPORARY)
    digest = hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part)
                digest.update(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in NO_SPACE:
            raise NoSpace(f"cannot write {path}: {error.strerror}; free space on the disk") from error
        raise Unwritable(f"cannot write {path}: {error.strerror}") from error
    return digest.digest()


def sync_directory(path: Path) -> None:
    """Makes renames and new names in a directory survive a power failure."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def digest_of(path: Path) -> bytes:
    """SHA-256 of a whole file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(HASH_BYTES):
            digest.update(part)
    return digest.digest()


def is_in_use(directory: Path) -> bool:
    """Whether a process owns a data directory. Looking leaves no trace."""
    try:
        handle = os.open(directory / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class DirectoryLock:
    """Exclusive ownership of a data directory. Held by the open file, so it ends with the process, however that ends."""

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._handle)
            raise Locked(
                f"the data directory {directory} is in use by process {owner}: stop that process, "
                "or give this one another ISCC_SEARCH_INDEX_URI"
            ) from error
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Gives the directory back. May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
