"""A bucket that is a directory: `file:///path`.

An object is a file of the same name. It is written to a temporary name in `.partial` of the same directory, synced, and then linked
(create) or renamed (replace) to its own name, so that nobody sees half of it; the folder is synced after that. A hard link fails when
the name is taken: that is the one conditional write which snapshots need. What a killed process left in `.partial` goes when the
directory is opened a day later.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from snapshots.bucket import KEY, Entry
from snapshots.errors import Corrupt, Missing, Refused, SnapshotError, Unreachable
from snapshots.files import REST, STEP_BYTES, Pace, local_errors, sync_directory

PARTIAL = ".partial"
PARTIAL_AGE_S = 24 * 3600
COPY_BYTES = 4 * 1024 * 1024
OPERATOR = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EOPNOTSUPP, errno.ELOOP}
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DirectoryBucket:
    """Lives as long as its user wants; any thread, and several processes on one directory."""

    def __init__(self, root: Path) -> None:
        self.url = root.as_uri()
        self._root = root
        self._lock = threading.Lock()
        self._synced: set[Path] = {root}
        with _translated(root):
            _make_root(root)
            _sweep(root / PARTIAL, time.time() - PARTIAL_AGE_S)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        return b"".join(self._read(key, start, length, COPY_BYTES))

    def read(self, key: str, start: int, length: int, take: Callable[[bytes], object]) -> int:
        count = 0
        for block in self._read(key, start, length, STEP_BYTES):
            take(block)
            count += len(block)
        return count

    def head(self, key: str) -> Entry | None:
        path = self._path(key)
        with _translated(path):
            entry = self._entry(key, path)
            if entry is None:
                self._still_there()
            return entry

    def create(self, key: str, body: bytes) -> bool:
        path = self._path(key)
        with _translated(path), self._partial([body]) as partial:
            folder = self._folder(path)
            try:
                os.link(partial, path)
            except FileExistsError:
                if self.get(key, 0, len(body) + 1) != body:
                    return False
            sync_directory(folder)
            return True

    def replace(self, key: str, body: bytes) -> None:
        self._put(key, [body])

    def put_file(self, key: str, path: Path, start: int, length: int) -> None:
        self._put(key, _blocks_of(path, start, length))

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        with _translated(self._root):
            self._still_there()
            yield from self._walk("", prefix, after)

    def delete(self, key: str) -> bool:
        path = self._path(key)
        with _translated(path):
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                self._still_there()
            return not path.exists()

    def abort_uploads(self, prefix: str, before_s: float) -> int:  # noqa: ARG002 - what killed processes left has names of chance
        with _translated(self._root):
            self._still_there()
            return _sweep(self._root / PARTIAL, before_s)

    def close(self) -> None:
        pass

    def _read(self, key: str, start: int, length: int | None, step: int) -> Iterator[bytes]:
        path = self._path(key)
        with _translated(path):
            try:
                with path.open("rb", buffering=0) as file:
                    size = os.fstat(file.fileno()).st_size
                    end = size if length is None else min(size, start + length)
                    yield from _blocks(file.fileno(), start, max(0, end - start), step)
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                self._still_there()
                raise Missing(f"no such object key={key} bucket={self.url}") from None

    def _path(self, key: str) -> Path:
        if not KEY.fullmatch(key) or key.partition("/")[0] == PARTIAL:
            raise Refused(f"not a key of a bucket key={key!r}")
        return self._root / key

    def _put(self, key: str, blocks: Iterable[bytes]) -> None:
        path = self._path(key)
        with _translated(path), self._partial(blocks) as partial:
            folder = self._folder(path)
            partial.replace(path)
            sync_directory(folder)

    @contextlib.contextmanager
    def _partial(self, blocks: Iterable[bytes]) -> Iterator[Path]:
        """A synced file with these bytes; gone afterwards unless it was renamed."""
        self._still_there()
        partial = self._root / PARTIAL / secrets.token_hex(16)
        partial.parent.mkdir(exist_ok=True)
        try:
            with partial.open("xb", buffering=0) as file:
                for block in blocks:
                    _write(file.fileno(), block)
                os.fsync(file.fileno())
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _folder(self, path: Path) -> Path:
        """The folder of an object, made and its own name synced. Never makes the bucket's directory: that would be another bucket."""
        folder = path.parent
        missing = [parent for parent in (folder, *folder.parents) if self._root in parent.parents]
        with self._lock:
            for each in reversed(missing):
                if each not in self._synced or not each.exists():
                    each.mkdir(exist_ok=True)
                    sync_directory(each.parent)
                    self._synced.add(each)
        return folder

    def _entry(self, key: str, path: Path) -> Entry | None:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Entry(key, status.st_size, status.st_mtime) if path.is_file() else None

    def _still_there(self) -> None:
        """A disk that is not mounted must not look like an empty bucket."""
        if not self._root.is_dir():
            raise Refused(f"the directory of the bucket is gone path={self._root}")

    def _walk(self, base: str, prefix: str, after: str) -> Iterator[Entry]:
        """Folders sort as `name/`, so that names come in the order of whole keys."""
        with os.scandir(self._root / base) as found:
            names = sorted(base + each.name + ("/" if each.is_dir() else "") for each in found)
        for name in names:
            if name == PARTIAL + "/" or not (name.startswith(prefix) or prefix.startswith(name)):
                continue
            if not name.endswith("/"):
                entry = self._entry(name, self._root / name) if name > after and name.startswith(prefix) else None
                if entry:
                    yield entry
            elif name > after or after.startswith(name):
                with contextlib.suppress(FileNotFoundError):
                    yield from self._walk(name, prefix, after)


def _make_root(root: Path) -> None:
    if root.is_dir():
        return
    if root.exists():
        raise Refused(f"not a directory path={root}")
    if not root.parent.is_dir():
        raise Refused(f"no such directory path={root.parent}: make it, or mount it, or correct the URL")
    root.mkdir(exist_ok=True)
    sync_directory(root.parent)


def _sweep(partial: Path, before_s: float) -> int:
    """Removes what killed processes left. Others may write here at this moment: only what is old goes."""
    gone = 0
    if partial.is_dir():
        with os.scandir(partial) as found:
            for each in found:
                with contextlib.suppress(FileNotFoundError):
                    if each.stat().st_mtime < before_s:
                        Path(each.path).unlink()
                        gone += 1
    return gone


def _blocks_of(path: Path, start: int, length: int) -> Iterator[bytes]:
    """A part of a file of ours, whose errors are not those of the bucket's disk. It rests after each block: searches come first."""
    with local_errors(path), path.open("rb", buffering=0) as file:
        pace = Pace(REST)
        for block in _blocks(file.fileno(), start, length, STEP_BYTES):
            yield block
            pace.step()


def _blocks(handle: int, start: int, length: int, step: int = COPY_BYTES) -> Iterator[bytes]:
    end = start + length
    while start < end:
        block = os.pread(handle, min(step, end - start), start)
        if not block:
            raise Corrupt(f"file ends too early missing={end - start} bytes")
        yield block
        start += len(block)


def _write(handle: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(handle, rest) :]


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except SnapshotError:
        raise
    except OSError as error:
        raise _meaning(error, path) from error


def _meaning(error: OSError, path: Path) -> SnapshotError:
    facts = f"path={path} error={error.strerror or error}"
    if error.errno in FULL:
        return Unreachable(f"no room on the disk of the bucket {facts}")
    if error.errno in OPERATOR:
        return Refused(f"the directory of the bucket cannot be used {facts}")
    return Unreachable(f"the disk of the bucket failed {facts}")
