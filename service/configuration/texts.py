"""Readers of texts that have rules of their own. Each raises ValueError with what was expected."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

NO_BUCKET = "none"


def directory(text: str) -> Path:
    scheme, separator, rest = text.partition("://")
    if not separator:
        if not text:
            raise ValueError("expected a directory, such as usearch:///data or /data")
        return _below_root(str(Path(text).expanduser().absolute()))
    if scheme == "usearch":
        if not rest.startswith("/"):
            raise ValueError(f"expected an absolute path: write usearch:///{rest} or the plain path")
        return _below_root(rest)
    if scheme == "lmdb":
        raise ValueError(f"there is one kind of store: write usearch:///{rest.lstrip('/')}, with a directory that is empty or ours")
    if scheme == "memory":
        raise ValueError("data always stands on a disk: write usearch:///tmp/tidepool for data that you do not need to keep")
    raise ValueError("expected usearch:///path or a plain path")


def _below_root(path: str) -> Path:
    if not path.strip("/"):
        raise ValueError("expected a directory below the root, such as usearch:///data")
    return Path("/" + path.lstrip("/"))


def one_worker(text: str) -> int:
    if text != "1":
        raise ValueError("expected 1: one process owns the data and uses all processors by itself, leave the variable out")
    return 1


def secret(text: str) -> str:
    if not text.strip():
        raise ValueError("empty: write a secret of your own, or leave the variable out for a service without a key")
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("expected printable ASCII without blanks at the ends, as it travels in a header")
    return text


def origins(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in found:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme == "" or parts.netloc == "" or parts.path):
            raise ValueError(f"expected * or origins such as https://example.org, not {origin!r}")
    return found


def bucket_url(text: str) -> str:
    if text == NO_BUCKET:
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("file", "s3"):
        raise ValueError("expected file:///path, s3://bucket/prefix or none")
    if scheme == "file" and (not rest.strip("/") or not rest.startswith("/")):
        raise ValueError("expected a full path: file:///path")
    if scheme == "s3" and not rest.strip("/"):
        raise ValueError("expected the name of a bucket: s3://bucket/prefix")
    return text


def encryption(text: str) -> str:
    if text not in ("", "AES256", "aws:kms") and not text.startswith("aws:kms:"):
        raise ValueError("expected AES256, aws:kms or aws:kms:KEY; objects are encrypted by the store, never here")
    return text


def web_address(text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https"):
        raise ValueError("expected an address that begins with http:// or https://")
    return text


def sentry_dsn(text: str) -> str:
    parts = urlsplit(text)
    project = parts.path.rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not parts.username or not parts.hostname or not project.isdigit():
        raise ValueError("expected the DSN of a project, such as https://key@sentry.example.org/1")
    return text


def keep(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and len(part.strip()) < 5 for part in parts):
        raise ValueError("expected how many hourly, daily and weekly checkpoints are kept, such as 24,7,4")
    hourly, daily, weekly = (int(part) for part in parts)
    return hourly, daily, weekly


def redis_url(text: str) -> str:
    if not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("expected redis://host:6379/0, or rediss:// for TLS")
    return text
