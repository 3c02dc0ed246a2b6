"""The bucket: what the rest of the package asks of a store. `open_bucket` makes one from a URL.

Keys are relative paths such as `v1/log/0123/….log`: segments of letters, digits, `.`, `-` and `_`, never empty, `.` or `..`.
Every method retries what can be retried (with jitter, bounded in time) and raises errors of `snapshots.errors` only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

SEGMENT = r"(?!\.{1,2}(/|$))[A-Za-z0-9._-]+"
KEY = re.compile(f"{SEGMENT}(/{SEGMENT})*")


class Entry(msgspec.Struct, frozen=True):
    """An object as the store lists it. `modified_s` is the store's clock, seconds since 1970."""

    key: str
    size: int
    modified_s: float


class Bucket(Protocol):
    """Any thread may call. `url` is for people; it holds no secret."""

    url: str

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """The object, or `length` bytes of it from `start` (fewer at its end). Raises Missing."""

    def read(self, key: str, start: int, length: int, take: Callable[[bytes], object]) -> int:
        """Hands the same bytes to `take` as they come: in order, in small blocks, each once. How many there were.

        An answer that breaks off is asked for again from there. Raises Missing, and what `take` raises.
        """

    def head(self, key: str) -> Entry | None:
        """What the store knows of it; None when it is not there."""

    def create(self, key: str, body: bytes) -> bool:
        """Stores the object unless the key is taken. True when the bytes are there, by this call or by an earlier try of it.

        An unknown outcome is resolved by reading back; when that fails too, Unreachable: the object may still appear.
        """

    def replace(self, key: str, body: bytes) -> None:
        """Stores the object, whatever was there."""

    def put_file(self, key: str, path: Path, start: int, length: int) -> None:
        """Stores a part of a file, whatever was there; multipart above 64 MiB. Nothing of it is visible before all of it is."""

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """All objects whose key begins with `prefix` and is greater than `after`, in key order."""

    def delete(self, key: str) -> bool:
        """True when the object is gone afterwards, also when it was not there; looked up again, since some stores only say so."""

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        """Gives up uploads below `prefix` that began before that moment and were never finished; how many. No object is touched.

        Refused where the store does not offer it, or does not let us.
        """

    def close(self) -> None:
        """Ends connections. Nothing is called afterwards."""
