"""Buckets in S3 that give up soon, so that tests of failing stores take no minute."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

from snapshots.patience import Patience
from snapshots.s3 import S3Bucket
from tests.stores import Store
from tests.stores.faulty import answer

SHORT = Patience(connect_s=1.0, read_s=1.0, total_s=15.0, first_pause_s=0.01)
SHORTEST = Patience(connect_s=0.2, read_s=0.2, total_s=0.2, first_pause_s=0.01)
SLOW_DOWN = answer(503, "SlowDown")


class Opened:
    """Called for a bucket; closes all that it made."""

    def __init__(self) -> None:
        self._buckets: list[S3Bucket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for bucket in self._buckets:
            bucket.close()

    def __call__(self, store: Store, patience: Patience = SHORT, prefix: str = "", page_keys: int = 1000) -> S3Bucket:
        bucket = S3Bucket(store.bucket, prefix or os.urandom(4).hex(), store.environment, patience=patience, page_keys=page_keys)
        self._buckets.append(bucket)
        return bucket
