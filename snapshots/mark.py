"""The mark: what this disk knows of the bucket. One small JSON file in `live`, so that it goes wherever the data goes."""

from __future__ import annotations

from pathlib import Path

import msgspec

from snapshots.errors import Corrupt, Refused
from snapshots.files import local_errors, write_whole
from snapshots.log import Place
from snapshots.manifest import Parent

NAME = "shipped.json"
FORMAT = 1


class Mark(msgspec.Struct, frozen=True):
    """Rows up to `log.sequence` are in the bucket. `epoch` 0: never published (a copy that was restored to a directory)."""

    format: int
    lineage: str
    epoch: int
    writer: str
    log: Place
    parent: Parent | None = None


class _Version(msgspec.Struct, frozen=True):
    """All that is asked of a mark of another version."""

    format: int


def read_mark(live: Path) -> Mark | None:
    """None when this disk was never published. Raises Corrupt or Refused."""
    path = live / NAME
    with local_errors(path):
        data = path.read_bytes() if path.exists() else None
    if data is None:
        return None
    try:
        version = msgspec.json.decode(data, type=_Version).format
        if version != FORMAT:
            raise Refused(f"{path} has format {version}, this version reads {FORMAT}: run the version of tidepool that wrote it")
        return msgspec.json.decode(data, type=Mark)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{path} cannot be read: {error}; move it away and start with --adopt-remote or --adopt-local") from error


def write_mark(live: Path, mark: Mark) -> None:
    """Whole or not at all, and synced."""
    write_whole(live / NAME, msgspec.json.encode(mark))
