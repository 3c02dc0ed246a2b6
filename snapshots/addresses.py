"""The URL of a bucket → the bucket: `file:///path` or `s3://bucket/prefix`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from snapshots.bucket import KEY, Bucket
from snapshots.directory import DirectoryBucket
from snapshots.errors import Refused

HOW = "write file:///path or s3://bucket/prefix"
BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


def open_bucket(url: str, environment: Mapping[str, str], *, encryption: str = "") -> Bucket:
    """`environment` names credentials, region and endpoint of S3 as AWS does. Opening sends nothing. A URL that cannot be used is Refused.

    `encryption` is `AES256`, `aws:kms` or `aws:kms:<key>`, for S3 only.
    """
    try:
        parts = urlsplit(url.strip())
    except ValueError as error:
        raise Refused(f"not the URL of a bucket: {HOW}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        # The URL is not repeated: it may hold a password.
        raise Refused(f"the URL of a bucket holds no user, query or fragment: {HOW}; credentials come from AWS_ACCESS_KEY_ID and the like")
    if parts.scheme == "file":
        if encryption:
            raise Refused(f"a directory cannot encrypt encryption={encryption!r}")
        return DirectoryBucket(_directory(parts))
    if parts.scheme == "s3":
        name, prefix = _name_and_prefix(parts)
        from snapshots.s3 import S3Bucket  # boto3 takes half a second to import

        return S3Bucket(name, prefix, environment, encryption=encryption)
    raise Refused(f"not the URL of a bucket url={url!r}: {HOW}")


def _directory(parts: SplitResult) -> Path:
    path = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise Refused(f"a directory is written with three slashes and a full path url={parts.geturl()!r}: file:///path")
    if path == Path("/"):
        raise Refused("the root of the file system cannot be a bucket: file:///path")
    return path


def _name_and_prefix(parts: SplitResult) -> tuple[str, str]:
    name, prefix = parts.netloc, unquote(parts.path).strip("/")
    if not BUCKET_NAME.fullmatch(name):
        raise Refused(f"not the name of an S3 bucket name={name!r}: s3://bucket/prefix")
    if prefix and not KEY.fullmatch(prefix):
        raise Refused(f"a prefix has letters, digits, '.', '-', '_' and single slashes prefix={prefix!r}: s3://bucket/prefix")
    return name, prefix
