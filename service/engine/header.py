"""The header of an LMDB file, checked before LMDB maps it."""

from __future__ import annotations

import os
import struct
from pathlib import Path

from service.engine.errors import Damaged

_ADVICE = "it is damaged: move it away and restore a copy (`tidepool verify` tells more)"
_MAGIC = 0xBEEFC0DE
_VERSION = 1
_META_OFFSET = 16
_META_BYTES = 136


def check_header(path: Path) -> None:
    """What LMDB itself does not check before it maps a file: a cut file would be SIGBUS, an empty one silently a new index."""
    size, needed = path.stat().st_size, needed_bytes(path)
    if needed > size:
        _accept_short(path, size, needed)


def needed_bytes(path: Path) -> int:
    """Size that the header pages ask for."""
    if path.stat().st_size == 0:
        raise Damaged(f"{path} is empty; {_ADVICE}")
    with path.open("rb") as file:
        first = file.read(_META_OFFSET + _META_BYTES)
        page_size = _page_size(first)
        if page_size is None:
            raise Damaged(f"{path} is no LMDB file; {_ADVICE}")
        file.seek(page_size)
        second = file.read(_META_OFFSET + _META_BYTES)
    if _page_size(second) != page_size:
        raise Damaged(f"{path} has a damaged second header; {_ADVICE}")
    return (max(_last_page(first), _last_page(second)) + 1) * page_size


def _accept_short(path: Path, size: int, needed: int) -> None:
    """Pages at the end that one transaction took and freed are never written: a short file is whole when no page in use is missing."""
    if problems := lmdb_problems(path):
        raise Damaged(f"{path} has {size} bytes where its header needs {needed}: {problems[0]}; {_ADVICE}")
    os.truncate(path, needed)


def lmdb_problems(path: Path) -> list[str]:
    """What is structurally wrong with an LMDB file, read without mapping it: about 170 MB a second."""
    from lmdb import verify  # only when asked for: not needed to run

    try:
        return [str(problem) for problem in verify.verify(str(path), subdir=False)]  # type: ignore[no-untyped-call]  # lmdb has no types for it
    except verify.VerifyError as error:
        return [str(error)]


def _page_size(page: bytes) -> int | None:
    """Page size from a meta page, None when it is not one. The free table's pad field holds it."""
    if len(page) < _META_OFFSET + _META_BYTES:
        return None
    magic, version = struct.unpack_from("<II", page, _META_OFFSET)
    size: int = struct.unpack_from("<I", page, _META_OFFSET + 24)[0]
    return size if magic == _MAGIC and version == _VERSION and 512 <= size <= 65536 else None


def _last_page(page: bytes) -> int:
    last: int = struct.unpack_from("<Q", page, _META_OFFSET + 24 + 2 * 48)[0]
    return last
