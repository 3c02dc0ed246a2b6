"""A bucket that tells how long each call took and how it ended. The bucket below does the work and the retries: one call, one report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshots.bucket import Bucket, Entry
from snapshots.errors import SnapshotError

Observe = Callable[[str, str, float], None]
"""Told the operation, the outcome and the seconds, on the calling thread."""

OPERATIONS = ("get", "head", "create", "replace", "put_file", "list", "delete", "abort_uploads")
OK, MISSING, TAKEN, UNDELETED = "ok", "missing", "taken", "undeleted"
"""How a call ends that raises nothing, or Missing. Other errors have the name of their kind in lower case."""


class TimedBucket:
    """What `snapshots.bucket.Bucket` describes. Lives as long as the bucket below."""

    def __init__(self, bucket: Bucket, observe: Observe) -> None:
        self.url = bucket.url
        self._bucket = bucket
        self._observe = observe

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._timed("get"):
            return self._bucket.get(key, start, length)

    def read(self, key: str, start: int, length: int, take: Callable[[bytes], object]) -> int:
        """Counts as `get`, with the time that `take` needs."""
        with self._timed("get"):
            return self._bucket.read(key, start, length, take)

    def head(self, key: str) -> Entry | None:
        with self._timed("head") as call:
            entry = self._bucket.head(key)
            call.outcome = MISSING if entry is None else OK
            return entry

    def create(self, key: str, body: bytes) -> bool:
        with self._timed("create") as call:
            made = self._bucket.create(key, body)
            call.outcome = OK if made else TAKEN
            return made

    def replace(self, key: str, body: bytes) -> None:
        with self._timed("replace"):
            self._bucket.replace(key, body)

    def put_file(self, key: str, path: Path, start: int, length: int) -> None:
        with self._timed("put_file"):
            self._bucket.put_file(key, path, start, length)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        """The time between two entries that the caller needs for itself does not count."""
        call = _Call()
        entries = self._bucket.list(prefix, after)
        try:
            while (entry := call.run(lambda: next(entries, None))) is not None:
                yield entry
        finally:
            self._observe("list", call.outcome, call.seconds)

    def delete(self, key: str) -> bool:
        with self._timed("delete") as call:
            gone = self._bucket.delete(key)
            call.outcome = OK if gone else UNDELETED
            return gone

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        with self._timed("abort_uploads"):
            return self._bucket.abort_uploads(prefix, before_s)

    def close(self) -> None:
        self._bucket.close()

    @contextmanager
    def _timed(self, operation: str) -> Iterator[_Call]:
        call = _Call()
        try:
            with call.watched():
                yield call
        finally:
            self._observe(operation, call.outcome, call.seconds)


class _Call:
    """One call. Lives until it is reported; one thread."""

    def __init__(self) -> None:
        self.outcome = OK
        self.seconds = 0.0

    def run(self, step: Callable[[], Entry | None]) -> Entry | None:
        with self.watched():
            return step()

    @contextmanager
    def watched(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except SnapshotError as error:
            self.outcome = type(error).__name__.lower()
            raise
        except BaseException:
            self.outcome = "failed"
            raise
        finally:
            self.seconds += time.perf_counter() - started
