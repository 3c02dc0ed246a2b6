"""The probe of a store: which it refuses, of what it warns, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from snapshots.addresses import open_bucket
from snapshots.bucket import Bucket, Entry
from snapshots.directory import DirectoryBucket
from snapshots.errors import Refused, Unreachable
from snapshots.probe import SKEW_MAX_S, probe
from tests.stores import rclone_store, swift_store


def test_rclone_is_refused() -> None:
    """It answers 200 to every create."""
    with rclone_store() as store:
        bucket = open_bucket(store.url, store.environment)
        findings = probe(bucket)
        assert findings.refusal() == "a name that is taken can be created again: the store ignores If-None-Match"
        assert list(bucket.list("")) == []
        bucket.close()


def test_swift_is_refused() -> None:
    """It refuses a second create, and lets several of many at the same moment through."""
    with swift_store() as store:
        bucket = open_bucket(store.url, store.environment)
        findings = probe(bucket)
        assert {check.name: check.ok for check in findings.checks}["create"]
        assert "winners: creating is not atomic" in (findings.refusal() or "")
        assert list(bucket.list("")) == []
        bucket.close()


class Weak(DirectoryBucket):
    """A directory with the faults that a test asks for."""

    def __init__(self, root: Path, *faults: str) -> None:
        super().__init__(root)
        self._faults = faults
        self._first: dict[str, bytes] = {}

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if "stale" in self._faults and key in self._first:
            return self._first[key][start : None if length is None else start + length]
        return super().get(key, 0 if "whole" in self._faults else start, length)

    def head(self, key: str) -> Entry | None:
        entry = super().head(key)
        ahead_s = {"ahead": SKEW_MAX_S + 60, "behind": -SKEW_MAX_S - 60}
        skew_s = sum(ahead_s.get(fault, 0) for fault in self._faults)
        return entry and msgspec.structs.replace(entry, modified_s=entry.modified_s + skew_s)

    def replace(self, key: str, body: bytes) -> None:
        self._first.setdefault(key, body)
        super().replace(key, body)

    def delete(self, key: str) -> bool:
        if "forbidden" in self._faults:
            raise Refused("AccessDenied")
        return super().delete(key)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        return iter(()) if "unlisted" in self._faults else super().list(prefix, after)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("stale", "an object that was just replaced reads as before"),
        ("whole", "parts of an object are read wrong"),
        ("unlisted", "what was just written is not listed"),
    ],
)
def test_a_weak_store_is_refused(tmp_path: Path, fault: str, told: str) -> None:
    """The sentence says what it cannot do."""
    assert probe(Weak(tmp_path / "bucket", fault)).refusal() == told


def test_reasons_are_told_together(tmp_path: Path) -> None:
    """All of them, in one line."""
    refusal = probe(Weak(tmp_path / "bucket", "whole", "unlisted")).refusal()
    assert refusal == "parts of an object are read wrong; what was just written is not listed"


@pytest.mark.parametrize(("fault", "sign"), [("ahead", 1), ("behind", -1)])
def test_clocks_that_differ_are_a_warning(tmp_path: Path, fault: str, sign: int) -> None:
    """Nothing depends on clocks but the age of what is swept."""
    findings = probe(Weak(tmp_path / "bucket", fault))
    assert findings.refusal() is None
    assert findings.skew_s == pytest.approx(sign * (SKEW_MAX_S + 60), abs=10)
    assert findings.warnings() == [f"the clocks of this machine and of the store differ by {abs(findings.skew_s):.0f} s"]


def test_without_permission_to_delete(tmp_path: Path) -> None:
    """A warning: such a store holds snapshots, and all of them for ever."""
    findings = probe(Weak(tmp_path / "bucket", "forbidden"))
    assert findings.refusal() is None
    assert findings.warnings() == ["objects cannot be deleted, so nothing is ever pruned: AccessDenied"]


class Away(DirectoryBucket):
    """A directory that goes away after so many creates."""

    creates = 3

    def create(self, key: str, body: bytes) -> bool:
        self.creates -= 1
        if self.creates < 0:
            raise Unreachable("gone")
        return super().create(key, body)


def test_a_store_that_goes_away_meanwhile(tmp_path: Path) -> None:
    """No finding: the store may be asked again. What was made is taken back."""
    bucket: Bucket = Away(tmp_path / "bucket")
    with pytest.raises(Unreachable, match="gone"):
        probe(bucket)
    assert list(bucket.list("")) == []
