"""What every bucket must do. A module of tests derives a class from `BucketSuite` and gives it a fixture `bucket` that is empty."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from snapshots.bucket import Bucket
from snapshots.errors import Corrupt, Missing, Refused
from snapshots.probe import probe
from snapshots.s3 import S3Bucket

MIB = 1024 * 1024
BODY = bytes(range(256)) * 4
RACERS, ROUNDS = 20, 15
NAMES = ["v1/HEAD.json", "v1/log/a-1/2", "v1/log/a.log", "v1/log/a/1", "v1/log/a/2", "v1/log/ab/1", "v1/log/b", "v2/log/a/1"]


class BucketSuite:
    """All properties that `snapshots.bucket` promises."""

    def test_what_was_created_is_there(self, bucket: Bucket) -> None:
        """Read, looked up and listed at once, with its size and the time of now."""
        assert bucket.create("v1/log/x/1.log", BODY)
        assert bucket.get("v1/log/x/1.log") == BODY
        entry = bucket.head("v1/log/x/1.log")
        assert entry is not None
        assert (entry.key, entry.size) == ("v1/log/x/1.log", len(BODY))
        assert abs(entry.modified_s - time.time()) < 60
        (listed,) = bucket.list("v1/")
        assert (listed.key, listed.size) == (entry.key, entry.size)
        assert abs(listed.modified_s - entry.modified_s) < 2

    def test_a_taken_name_is_not_created_again(self, bucket: Bucket) -> None:
        """Other bytes do not replace what is there, also when they begin alike."""
        assert bucket.create("v1/a", BODY)
        assert [bucket.create("v1/a", other) for other in (BODY[::-1], BODY[:-1], BODY + b"x", b"")] == [False] * 4
        assert bucket.get("v1/a") == BODY

    @pytest.mark.parametrize("body", [b"", b"x", os.urandom(4 * MIB)], ids=["empty", "small", "4 MiB"])
    def test_creating_the_same_again_counts_as_created(self, bucket: Bucket, body: bytes) -> None:
        """An earlier try without an answer is recognised by its bytes."""
        assert bucket.create("v1/a", body)
        assert bucket.create("v1/a", body)
        assert bucket.get("v1/a") == body
        entry = bucket.head("v1/a")
        assert entry is not None
        assert entry.size == len(body)

    def test_one_of_many_creates_wins(self, bucket: Bucket) -> None:
        """Exactly one of 20 at the same moment, 15 times, and its bytes are there."""
        with ThreadPoolExecutor(RACERS) as threads:
            for number in range(ROUNDS):
                key, bodies = f"v1/race/{number}", [f"{number} {racer}".encode() * 100 for racer in range(RACERS)]
                won = _at_once(threads, [functools.partial(bucket.create, key, body) for body in bodies])
                winners = [body for body, first in zip(bodies, won, strict=True) if first]
                assert winners == [bucket.get(key)]

    def test_replace(self, bucket: Bucket) -> None:
        """Makes what is not there, and what is there anew, longer or shorter."""
        for body in (b"1", BODY, b"", b"22"):
            bucket.replace("v1/HEAD.json", body)
            assert bucket.get("v1/HEAD.json") == body

    def test_nobody_reads_a_mixture(self, bucket: Bucket) -> None:
        """Each of many reads during replacing sees one whole version."""
        versions = {bytes([number]) * MIB for number in range(8)}
        bucket.replace("v1/a", min(versions))
        done = threading.Event()

        def read() -> int:
            reads = 0
            while not done.is_set():
                assert bucket.get("v1/a") in versions
                reads += 1
            return reads

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            for _ in range(3):
                for version in versions:
                    bucket.replace("v1/a", version)
            done.set()
            assert all(reader.result() for reader in readers)

    def test_what_is_not_there(self, bucket: Bucket) -> None:
        """Is Missing to a reader, None to who looks, and deleted already."""
        bucket.create("v1/log/x/1.log", BODY)
        for key in ("v1/log/x/2.log", "v1/log/x", "v1", "v1/log/x/1.log/y"):
            for wanted in ((), (5,), (5, 5), (0, 0)):
                with pytest.raises(Missing, match=key):
                    bucket.get(key, *wanted)
            for length in (0, 5):
                with pytest.raises(Missing, match=key):
                    bucket.read(key, 0, length, _unused)
            assert bucket.head(key) is None
        assert bucket.delete("v1/log/x/2.log")
        assert list(bucket.list("v2/")) == []

    def test_ranges(self, bucket: Bucket) -> None:
        """Fewer bytes at the end, none behind it."""
        bucket.create("v1/a", BODY)
        for start in (0, 1, 100, 1023, 1024, 5000):
            assert bucket.get("v1/a", start) == BODY[start:]
            for length in (0, 1, 100, 5000):
                assert bucket.get("v1/a", start, length) == BODY[start : start + length]
                taken: list[bytes] = []
                assert bucket.read("v1/a", start, length, taken.append) == len(BODY[start : start + length])
                assert b"".join(taken) == BODY[start : start + length]

    def test_list_is_in_key_order(self, bucket: Bucket) -> None:
        """Also where a name begins with another one, and over several pages of the store."""
        for name in random.Random(7).sample(NAMES, len(NAMES)):
            bucket.create(name, b"x")
        assert sorted(NAMES) == NAMES
        for prefix in ("", "v1/", "v1/log/", "v1/log/a", "v1/log/a/", "v1/log/a/1", "v1/log/c", "v"):
            expected = [name for name in NAMES if name.startswith(prefix)]
            assert [entry.key for entry in bucket.list(prefix)] == expected
            for after in ("v1/log/a", "v1/log/a.log", "v1/log/a/1", "v1/log/a/10", "v2", "a"):
                assert [entry.key for entry in bucket.list(prefix, after)] == [name for name in expected if name > after]

    def test_delete(self, bucket: Bucket) -> None:
        """Gone at once for every kind of look; its name can be created anew."""
        for name in ("v1/a", "v1/b"):
            bucket.create(name, BODY)
        assert bucket.delete("v1/a")
        assert bucket.delete("v1/a")
        assert bucket.head("v1/a") is None
        assert [entry.key for entry in bucket.list("")] == ["v1/b"]
        assert bucket.create("v1/a", b"other")

    def test_put_file_takes_a_part(self, bucket: Bucket, tmp_path: Path) -> None:
        """Exactly that part, whatever was there."""
        whole = os.urandom(100_000)
        file = tmp_path / "file"
        file.write_bytes(whole)
        for start, length in ((0, 100_000), (7, 50_000), (99_999, 1), (100, 0)):
            bucket.put_file("v1/blobs/a", file, start, length)
            assert bucket.get("v1/blobs/a") == whole[start : start + length]

    def test_put_file_of_more_than_64_mib(self, bucket: Bucket, tmp_path: Path) -> None:
        """Sent in parts where the store wants that; the same bytes come back, whole and by ranges."""
        start, length = 1001, 65 * MIB + 123
        file = tmp_path / "file"
        file.write_bytes(os.urandom(start + length + 5000))
        bucket.put_file("v1/blobs/large", file, start, length)
        expected = memoryview(file.read_bytes())[start : start + length]
        entry = bucket.head("v1/blobs/large")
        assert entry is not None
        assert entry.size == length
        digest = hashlib.sha256()
        for at in range(0, length, 16 * MIB):
            assert bucket.read("v1/blobs/large", at, 16 * MIB, digest.update) == min(16 * MIB, length - at)
        assert digest.digest() == hashlib.sha256(expected).digest()
        for at, count in ((16 * MIB - 5, 10), (32 * MIB - 1, 2), (length - 3, 10)):
            assert bucket.get("v1/blobs/large", at, count) == expected[at : at + count]

    def test_put_file_that_cannot_be_read(self, bucket: Bucket, tmp_path: Path) -> None:
        """Nothing is stored of a file that ends too early or is not there."""
        file = tmp_path / "file"
        file.write_bytes(BODY)
        with pytest.raises(Corrupt, match="ends too early"):
            bucket.put_file("v1/blobs/a", file, 10, len(BODY))
        with pytest.raises(Refused, match="no-such-file"):
            bucket.put_file("v1/blobs/a", tmp_path / "no-such-file", 0, 1)
        assert list(bucket.list("")) == []

    def test_32_threads_read(self, bucket: Bucket) -> None:
        """Each gets its own bytes."""
        for number in range(4):
            bucket.create(f"v1/{number}", bytes([number]) * 100_000)
        with ThreadPoolExecutor(32) as threads:
            reads = list(threads.map(lambda number: bucket.get(f"v1/{number % 4}", number, 50_000), range(128)))
        assert reads == [bytes([number % 4]) * 50_000 for number in range(128)]

    def test_a_name_that_is_no_key(self, bucket: Bucket) -> None:
        """Is refused before anything is touched."""
        calls: list[Callable[[str], object]] = [
            bucket.get,
            lambda key: bucket.read(key, 0, 1, _unused),
            bucket.head,
            lambda key: bucket.create(key, b""),
            lambda key: bucket.replace(key, b""),
            lambda key: bucket.put_file(key, Path(__file__), 0, 1),
            bucket.delete,
        ]
        for key in ("", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/.", "a b", "a\\b", "ä", "a\n", "a?b", "a\0"):
            for call in calls:
                with pytest.raises(Refused, match="not a key"):
                    call(key)

    def test_the_probe_finds_nothing(self, bucket: Bucket) -> None:
        """A store that keeps its promises is not refused, not warned of, and left empty."""
        findings = probe(bucket)
        assert (findings.refusal(), findings.warnings()) == (None, [])
        assert {check.name for check in findings.checks} >= {"create", "race", "ranges", "delete", "clock"}
        assert list(bucket.list("")) == []
        assert findings.seconds < 30


class S3Suite(BucketSuite):
    """What stores that speak S3 do besides; pages of uploads hold three."""

    uploads_began_s: float | None = None
    """When every upload began, for a store that always says the same."""

    def test_uploads_that_were_never_finished(self, bucket: S3Bucket) -> None:
        """The old ones below the prefix are aborted, on whatever page they are; younger ones, others' and objects stay."""
        bucket.create("v1/blobs/here", BODY)
        for key in ("v1/blobs/a", "v1/blobs/a", "v1/blobs/b", "v1/blobs/c", "v1/blobs/d", "v1/blobs/d", "v1/blobs/here", "v1/other"):
            bucket._client.send("create_multipart_upload", **bucket._place(key))
        began_s = self.uploads_began_s or time.time()
        assert bucket.abort_uploads("v1/blobs/", began_s - 60) == 0
        assert bucket.abort_uploads("v1/blobs/", began_s + 60) == 7
        assert bucket.abort_uploads("v1/blobs/", began_s + 60) == 0
        assert bucket.abort_uploads("v1/", began_s + 60) == 1
        assert bucket.get("v1/blobs/here") == BODY


def refused_by_all(bucket: Bucket, *, told: str) -> None:
    """Every call is Refused with these words."""
    calls: list[Callable[[], object]] = [
        lambda: bucket.get("v1/a"),
        lambda: bucket.get("v1/a", 0, 0),
        lambda: bucket.read("v1/a", 0, 1, _unused),
        lambda: bucket.head("v1/a"),
        lambda: bucket.create("v1/a", b"x"),
        lambda: bucket.replace("v1/a", b"x"),
        lambda: bucket.put_file("v1/a", Path(__file__), 0, 1),
        lambda: list(bucket.list("v1/")),
        lambda: bucket.delete("v1/a"),
        lambda: bucket.abort_uploads("v1/", 0.0),
    ]
    for call in calls:
        with pytest.raises(Refused, match=told):
            call()


def _unused(_: bytes) -> None:
    raise AssertionError("nothing is there to be taken")


def _at_once(threads: ThreadPoolExecutor, calls: list[Callable[[], bool]]) -> list[bool]:
    line = threading.Barrier(len(calls))

    def run(call: Callable[[], bool]) -> bool:
        line.wait()
        return call()

    return list(threads.map(run, calls))
