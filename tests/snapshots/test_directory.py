"""A directory as a bucket: the suite, and what only a directory can do wrong."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from snapshots.addresses import open_bucket
from snapshots.bucket import Bucket
from snapshots.directory import PARTIAL, PARTIAL_AGE_S
from snapshots.errors import Refused
from tests.project import ROOT
from tests.snapshots.bucket_suite import BODY, MIB, BucketSuite, refused_by_all
from tests.system.server import wait_until
from tests.system.strace import Call, Strace

# In CI, where a skip is a failure, the tool is there.
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

# Does with `bucket` what each line of its input says, and prints what came of it.
CHILD = """
import sys
from snapshots.addresses import open_bucket
bucket = open_bucket("file://" + sys.argv[1], {})
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(repr(eval(line)), flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""


class TestDirectory(BucketSuite):
    """The suite on a directory."""

    @pytest.fixture
    def bucket(self, tmp_path: Path) -> Iterator[Bucket]:
        bucket = opened(tmp_path / "bucket")
        yield bucket
        bucket.close()


def opened(path: Path) -> Bucket:
    return open_bucket(path.as_uri(), {})


def partials(path: Path) -> list[str]:
    return [each.name for each in (path / PARTIAL).iterdir()] if (path / PARTIAL).exists() else []


def being_written(path: Path, before: set[str]) -> bool:
    return bool(set(partials(path)) - before)


def test_the_directory_is_made_in_one_that_exists(tmp_path: Path) -> None:
    """A name with spaces too; opened again, everything is there."""
    opened(tmp_path / "a bucket").create("v1/a", BODY)
    assert opened(tmp_path / "a bucket").get("v1/a") == BODY


def test_no_directory_is_made_in_one_that_is_missing(tmp_path: Path) -> None:
    """A typing error, or a disk that is not mounted, is not a new bucket."""
    with pytest.raises(Refused, match=r"no such directory path=.*/typo: make it, or mount it, or correct the URL"):
        opened(tmp_path / "typo" / "bucket")
    assert not (tmp_path / "typo").exists()


def test_a_file_is_no_bucket(tmp_path: Path) -> None:
    """Said so when it is opened."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Refused, match="not a directory"):
        opened(tmp_path / "file")


def test_a_directory_that_is_gone_is_not_an_empty_bucket(tmp_path: Path) -> None:
    """Nothing answers that an object is missing, and nothing makes the directory anew."""
    bucket = opened(tmp_path / "bucket")
    bucket.create("v1/a", BODY)
    (tmp_path / "bucket").rename(tmp_path / "elsewhere")
    refused_by_all(bucket, told="the directory of the bucket is gone")
    assert not (tmp_path / "bucket").exists()


def test_folders_that_are_gone_are_made_anew(tmp_path: Path) -> None:
    """An operator who empties the bucket does not stop a writer."""
    bucket = opened(tmp_path / "bucket")
    bucket.create("v1/log/a", BODY)
    for folder in ("v1", PARTIAL):
        shutil.rmtree(tmp_path / "bucket" / folder)
    assert bucket.create("v1/log/a", BODY)
    assert bucket.get("v1/log/a") == BODY


def test_objects_are_files_of_the_same_name(tmp_path: Path) -> None:
    """A person or another tool can read and copy them; nothing else stays behind."""
    bucket = opened(tmp_path / "bucket")
    bucket.create("v1/log/a.log", BODY)
    bucket.replace("v1/HEAD.json", b"{}")
    bucket.create("v1/HEAD.json", b"other")
    files = {path.relative_to(tmp_path / "bucket").as_posix(): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"v1/log/a.log": BODY, "v1/HEAD.json": b"{}"}


def test_what_is_old_in_the_temporary_folder_goes(tmp_path: Path) -> None:
    """Half-written files are no objects. What may still be written stays."""
    bucket = opened(tmp_path / "bucket")
    bucket.create("v1/a", BODY)
    for name, age_s in (("old", PARTIAL_AGE_S + 60), ("young", PARTIAL_AGE_S - 60)):
        (tmp_path / "bucket" / PARTIAL / name).write_bytes(BODY)
        os.utime(tmp_path / "bucket" / PARTIAL / name, (time.time() - age_s,) * 2)
    assert [entry.key for entry in opened(tmp_path / "bucket").list("")] == ["v1/a"]
    assert partials(tmp_path / "bucket") == ["young"]
    assert bucket.abort_uploads("", time.time() - PARTIAL_AGE_S) == 0
    assert bucket.abort_uploads("", time.time()) == 1
    assert partials(tmp_path / "bucket") == []
    with pytest.raises(Refused, match="not a key"):
        bucket.get(f"{PARTIAL}/young")


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """Also when the user may read everything: here the name of the object leads in a circle."""
    bucket = opened(tmp_path / "bucket")
    (tmp_path / "bucket" / "circle").symlink_to("circle")
    with pytest.raises(Refused, match="cannot be used"):
        bucket.get("circle")


@contextmanager
def child(path: Path, *prefix: str) -> Iterator[subprocess.Popen[str]]:
    """Another process with the bucket open."""
    command = [*prefix, sys.executable, "-c", CHILD, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_kill_while_writing(tmp_path: Path) -> None:
    """What is there is a whole version, and the next writer is not hindered."""
    path = tmp_path / "bucket"
    bucket = opened(path)
    for _ in range(5):
        before = set(partials(path))
        with child(path) as process:
            assert process.stdin is not None
            process.stdin.write(f"[bucket.replace('v1/a', bytes([number]) * {8 * MIB}) for number in range(200)]\n")
            process.stdin.flush()
            wait_until(functools.partial(being_written, path, before), 30, "a file that is being written")
        read = bucket.get("v1/a") if bucket.head("v1/a") else b""
        assert read == read[:1] * len(read)
        assert len(read) in (0, 8 * MIB)
        assert [entry.key for entry in bucket.list("")] in ([], ["v1/a"])
    bucket.replace("v1/a", BODY)
    assert bucket.get("v1/a") == BODY


@needs_strace
@pytest.mark.parametrize("line", ["bucket.create('v1/log/a', b'x')", "bucket.replace('v1/log/a', b'x')"])
def test_an_object_is_on_the_disk_before_its_name_is(tmp_path: Path, line: str) -> None:
    """Bytes synced, name given, folder synced, and the folders above it."""
    path = tmp_path / "bucket"
    with child(path) as process, Strace(process.pid, tmp_path / "trace", "-e", "trace=fsync,link,linkat,rename,renameat,mkdir") as trace:
        assert told(process, line) in ("True\n", "None\n")
        told(process, "'the tracer has seen the end of the call before'")
    calls = trace.calls()
    (body,) = [call for call in calls if call.name == "fsync" and f"/{PARTIAL}/" in call.text]
    (named,) = [call for call in calls if call.name in ("link", "linkat", "rename", "renameat")]
    assert body.end < named.begin
    assert named.end < synced(calls, path / "v1" / "log")[-1].begin
    for folder in (path, path / "v1"):
        assert synced(calls, folder)
    assert all(call.text.endswith(" = 0") for call in calls if call.name != "mkdir")


def synced(calls: list[Call], folder: Path) -> list[Call]:
    return [call for call in calls if call.name == "fsync" and f"<{folder}>" in call.text]


@needs_strace
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("fsync:error=ENOSPC", "Unreachable no room on the disk of the bucket"),
        ("fsync:error=EDQUOT", "Unreachable no room on the disk of the bucket"),
        ("fsync:error=EIO", "Unreachable the disk of the bucket failed"),
        ("link,linkat:error=EROFS", "Refused the directory of the bucket cannot be used"),
        ("link,linkat:error=EPERM", "Refused the directory of the bucket cannot be used"),
    ],
)
def test_a_disk_that_fails(tmp_path: Path, fault: str, expected: str) -> None:
    """The error says what to do, what was there stays, and nothing half is left."""
    path = tmp_path / "bucket"
    opened(path).create("v1/a", BODY)
    with child(path) as process, Strace(process.pid, tmp_path / "trace", "-e", f"inject={fault}"):
        assert told(process, "bucket.create('v1/b', b'x')").startswith(expected)
    assert [entry.key for entry in opened(path).list("")] == ["v1/a"]
    assert partials(path) == []


def test_a_disk_that_is_full_in_the_middle(tmp_path: Path) -> None:
    """A limit on the size of files stands for it."""
    path = tmp_path / "bucket"
    opened(path).create("v1/a", BODY)
    with child(path, "prlimit", f"--fsize={MIB}") as process:
        assert told(process, f"bucket.replace('v1/a', bytes({2 * MIB}))").startswith("Unreachable no room on the disk of the bucket")
    assert opened(path).get("v1/a") == BODY
    assert partials(path) == []
