"""A part of a local file as a stream that can be sent, also several at the same time from one open file."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from snapshots.errors import Corrupt
from snapshots.files import local_errors


class Section(io.RawIOBase):
    """Used by one thread. Reads at positions, so the file itself has none."""

    def __init__(self, handle: int, start: int, length: int) -> None:
        self._handle = handle
        self._start = start
        self._length = length
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        left = self._length - self._at
        wanted = left if size < 0 else min(size, left)
        block = os.pread(self._handle, wanted, self._start + self._at) if wanted > 0 else b""
        self._at += len(block)
        return block


@contextlib.contextmanager
def open_section(path: Path, start: int, length: int) -> Iterator[Callable[[int, int], Section]]:
    """Yields what makes sections, by offset within the part and size. A file that ends too early is Corrupt: a store would wait on."""
    with local_errors(path), path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size < start + length:
            raise Corrupt(f"file ends too early path={path} size={size} expected={start + length}")
        yield lambda offset, count: Section(file.fileno(), start + offset, count)
