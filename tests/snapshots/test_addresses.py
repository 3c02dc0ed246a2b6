"""URLs of buckets: which are understood, and what is said of the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from snapshots.addresses import open_bucket
from snapshots.errors import Refused
from tests.project import ROOT

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_REGION": "us-east-1"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://tide", "s3://tide"),
        ("s3://tide/", "s3://tide"),
        ("s3://tide/pool", "s3://tide/pool"),
        ("s3://tide/pool/", "s3://tide/pool"),
        (" s3://tide/a/b.c_d-e ", "s3://tide/a/b.c_d-e"),
    ],
)
def test_buckets_in_s3(url: str, expected: str) -> None:
    """With and without a prefix; slashes at the end mean nothing."""
    bucket = open_bucket(url, KEYS)
    assert bucket.url == expected
    bucket.close()


@pytest.mark.parametrize("form", ["file://{}/bucket", "file://{}/bucket/", "file://localhost{}/bucket", "file://{}/b%75cket"])
def test_directories(tmp_path: Path, form: str) -> None:
    """With a full path."""
    bucket = open_bucket(form.format(tmp_path), {})
    assert bucket.url == f"file://{tmp_path}/bucket"
    assert (tmp_path / "bucket").is_dir()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "not the URL of a bucket url='': write file:///path or s3://bucket/prefix"),
        ("/var/bucket", "write file:///path or s3://bucket/prefix"),
        ("gs://tide/pool", "write file:///path or s3://bucket/prefix"),
        ("https://tide.s3.amazonaws.com/pool", "write file:///path or s3://bucket/prefix"),
        ("s3:tide", "not the name of an S3 bucket name='': s3://bucket/prefix"),
        ("s3:///pool", "not the name of an S3 bucket"),
        ("s3://t", "not the name of an S3 bucket"),
        ("s3://tide:9000/pool", "not the name of an S3 bucket"),
        ("s3://tide/a//b", "single slashes prefix='a//b'"),
        ("s3://tide/a/../b", "a prefix has letters"),
        ("s3://tide/a b", "a prefix has letters"),
        ("s3://tide/pool?region=eu", "no user, query or fragment"),
        ("s3://[tide/pool", "not the URL of a bucket"),
        ("file://var/bucket", "three slashes and a full path url='file://var/bucket': file:///path"),
        ("file:bucket", "three slashes and a full path"),
        ("file:///var/../bucket", "three slashes and a full path"),
        ("file:///", "the root of the file system cannot be a bucket"),
        ("file:///var/bucket#1", "no user, query or fragment"),
    ],
)
def test_what_is_no_bucket(url: str, told: str) -> None:
    """The sentence says what is wrong and how to write it."""
    with pytest.raises(Refused) as refusal:
        open_bucket(url, KEYS)
    assert told in str(refusal.value)


def test_a_password_is_not_repeated() -> None:
    """Credentials in a URL are refused, and end up in no log."""
    with pytest.raises(Refused) as refusal:
        open_bucket("s3://key:hidden@tide/pool", KEYS)
    assert "AWS_ACCESS_KEY_ID" in str(refusal.value)
    assert "hidden" not in str(refusal.value)


@pytest.mark.parametrize("encryption", ["aes256", "AES", "aws:kms:", "aws:kms:dsse", "none"])
def test_an_encryption_that_nobody_knows(encryption: str) -> None:
    """Refused, instead of stored without."""
    with pytest.raises(Refused, match="AES256, aws:kms or aws:kms:<key id"):
        open_bucket("s3://tide", KEYS, encryption=encryption)


def test_a_directory_cannot_encrypt(tmp_path: Path) -> None:
    """Refused too."""
    with pytest.raises(Refused, match="cannot encrypt"):
        open_bucket(f"file://{tmp_path}", {}, encryption="AES256")


def test_a_directory_needs_no_boto3(tmp_path: Path) -> None:
    """Half a second of imports is for those who use S3."""
    code = (
        "import sys; from snapshots.addresses import open_bucket; from snapshots.probe import probe;"
        f"probe(open_bucket('file://{tmp_path}/bucket', {{}}));"
        "print([name for name in sys.modules if 'boto' in name or 'urllib3' in name])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
