"""Whether a start tries the store, remembers that it is good, and refuses a bad one."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from service.boot.trust import MEMORY, MEMORY_S, Trusted, examine
from snapshots.directory import DirectoryBucket
from snapshots.errors import Refused, Unreachable

REASON = "a name that is taken can be created again: the store ignores If-None-Match"


class Counting(DirectoryBucket):
    """A directory that ignores conditions, forgets to delete or does not answer, as the test asks, and counts what is created."""

    def __init__(self, root: Path, fault: str = "") -> None:
        super().__init__(root)
        self.fault = fault
        self.creates = 0

    def create(self, key: str, body: bytes) -> bool:
        self.creates += 1
        if self.fault == "silent":
            raise Unreachable("the bucket does not answer")
        if self.fault == "careless":
            self.replace(key, body)
            return True
        return super().create(key, body)

    def delete(self, key: str) -> bool:
        return False if self.fault == "keeps" else super().delete(key)


def remembered(directory: Path) -> Trusted:
    return msgspec.json.decode((directory / MEMORY).read_bytes(), type=Trusted)


def test_a_good_store_is_tried_once_a_week(tmp_path: Path) -> None:
    """Also not more than a directory's disk can do at once."""
    bucket = Counting(tmp_path / "bucket")
    assert examine(bucket, tmp_path, accept=False) == ""
    first = bucket.creates
    assert 0 < first <= 24
    assert examine(bucket, tmp_path, accept=False) == ""
    assert bucket.creates == first
    found = remembered(tmp_path)
    for asked_at in (found.asked_at - MEMORY_S - 1, found.asked_at + 3600):
        (tmp_path / MEMORY).write_bytes(msgspec.json.encode(Trusted(bucket.url, asked_at)))
        before = bucket.creates
        examine(bucket, tmp_path, accept=False)
        assert bucket.creates > before
        assert abs(remembered(tmp_path).asked_at - time.time()) < 60


@pytest.mark.parametrize("memory", [b"", b"\xff", b"{}", b'{"url":"file:///other","asked_at":99999999999}'])
def test_a_memory_that_says_nothing_of_this_store(tmp_path: Path, memory: bytes) -> None:
    """Damaged, or of another one: it is tried again."""
    (tmp_path / MEMORY).write_bytes(memory)
    bucket = Counting(tmp_path / "bucket")
    assert examine(bucket, tmp_path, accept=False) == ""
    assert bucket.creates > 0
    assert remembered(tmp_path).url == bucket.url


def test_an_unsafe_store_is_refused(tmp_path: Path) -> None:
    """With the reason, and the setting that accepts it; nothing is remembered, nothing is left."""
    bucket = Counting(tmp_path / "bucket", "careless")
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            examine(bucket, tmp_path, accept=False)
        assert REASON in str(refused.value)
        assert "ISCC_SEARCH_SNAPSHOT_UNSAFE=yes accepts this one" in str(refused.value)
    assert not (tmp_path / MEMORY).exists()
    assert list(bucket.list("")) == []


def test_an_unsafe_store_that_is_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Is said at each start, and never remembered as good."""
    bucket = Counting(tmp_path / "bucket", "careless")
    for starts in (1, 2):
        assert examine(bucket, tmp_path, accept=True) == REASON
        assert caplog.text.count("IS NOT SAFE") == starts
    assert not (tmp_path / MEMORY).exists()


def test_a_warning_does_not_stop_a_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A store that cannot delete keeps everything, which is safe."""
    assert examine(Counting(tmp_path / "bucket", "keeps"), tmp_path, accept=False) == ""
    assert "nothing is ever pruned" in caplog.text
    assert (tmp_path / MEMORY).exists()


def test_a_store_that_does_not_answer_is_for_others_to_judge(tmp_path: Path) -> None:
    assert examine(Counting(tmp_path / "bucket", "silent"), tmp_path, accept=False) == ""
    assert not (tmp_path / MEMORY).exists()
