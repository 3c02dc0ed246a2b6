"""The bucket that is timed: it does what the one below does, and reports each call once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapshots.bucket import Entry
from snapshots.directory import DirectoryBucket
from snapshots.errors import Missing, Refused, Unreachable
from snapshots.timed import OPERATIONS, TimedBucket
from tests.snapshots.bucket_suite import BODY, BucketSuite

Calls = list[tuple[str, str]]


class TestTimed(BucketSuite):
    """The suite on a directory that is timed."""

    @pytest.fixture
    def bucket(self, tmp_path: Path) -> Iterator[TimedBucket]:
        bucket = TimedBucket(DirectoryBucket(tmp_path / "bucket"), lambda *_: None)
        yield bucket
        bucket.close()


class Silent(DirectoryBucket):
    """A store that does not answer. Only for failures."""

    def head(self, key: str) -> Entry | None:
        raise Unreachable(key)

    def delete(self, key: str) -> bool:
        return not key


def timed(path: Path, kind: type[DirectoryBucket] = DirectoryBucket) -> tuple[TimedBucket, Calls]:
    calls: Calls = []

    def observe(operation: str, outcome: str, seconds: float) -> None:
        assert 0 <= seconds < 60
        calls.append((operation, outcome))

    return TimedBucket(kind(path), observe), calls


def test_each_call_is_reported_once_with_how_it_ended(tmp_path: Path) -> None:
    """Every operation, and both ends of those that can find or not find something."""
    bucket, calls = timed(tmp_path / "bucket")
    (tmp_path / "file").write_bytes(BODY)
    bucket.create("a", BODY)
    bucket.create("a", b"other")
    bucket.replace("b", BODY)
    bucket.put_file("c", tmp_path / "file", 0, len(BODY))
    bucket.get("a")
    bucket.head("a")
    bucket.head("nothing")
    assert [entry.key for entry in bucket.list("")] == ["a", "b", "c"]
    bucket.delete("a")
    assert bucket.abort_uploads("", time.time()) == 0
    assert calls == [
        ("create", "ok"),
        ("create", "taken"),
        ("replace", "ok"),
        ("put_file", "ok"),
        ("get", "ok"),
        ("head", "ok"),
        ("head", "missing"),
        ("list", "ok"),
        ("delete", "ok"),
        ("abort_uploads", "ok"),
    ]
    assert {operation for operation, _ in calls} == set(OPERATIONS)


def test_errors_are_reported_by_their_kind_and_raised(tmp_path: Path) -> None:
    """What went wrong stands in the figures and still reaches the caller."""
    bucket, calls = timed(tmp_path / "bucket", Silent)
    with pytest.raises(Missing):
        bucket.get("nothing")
    with pytest.raises(Refused):
        bucket.replace("../x", BODY)
    with pytest.raises(Unreachable):
        bucket.head("a")
    assert not bucket.delete("a")
    assert calls == [("get", "missing"), ("replace", "refused"), ("head", "unreachable"), ("delete", "undeleted")]


@pytest.mark.timing
def test_a_listing_counts_the_store_and_not_the_caller(tmp_path: Path) -> None:
    """One report at its end, also when the caller stops early."""
    took: list[float] = []
    bucket = TimedBucket(DirectoryBucket(tmp_path / "bucket"), lambda _, __, seconds: took.append(seconds))
    for name in "abc":
        bucket.create(name, BODY)
    took.clear()
    started = time.perf_counter()
    entries = iter(bucket.list(""))
    next(entries)
    while time.perf_counter() - started < 0.5:  # a slow caller
        pass
    assert took == []
    entries.close()  # type: ignore[attr-defined]  # it is a generator
    assert len(took) == 1
    assert took[0] < 0.5
