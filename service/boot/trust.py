"""Whether the store can be trusted: asked once at a start, remembered for a week when it can, refused when it cannot.

`<data directory>/probe.json` says which bucket was found good, and when. It is only a memory: without it the store is tried again.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from service.logs import logger
from snapshots.bucket import Bucket
from snapshots.errors import NoRoom, Refused, Unreachable
from snapshots.files import write_whole
from snapshots.probe import ROUNDS, Findings, probe

MEMORY = "probe.json"
MEMORY_S = 7 * 86_400.0
DIRECTORY_ROUNDS = 1
"""Races on a directory at a start: hard links are the kernel's, one look is enough, and a start must not wait for a hundred fsyncs."""


class Trusted(msgspec.Struct, frozen=True):
    """The content of `probe.json`. `asked_at` in seconds since 1970."""

    url: str
    asked_at: float


def examine(bucket: Bucket, directory: Path, *, accept: bool) -> str:
    """Empty when the store keeps what it promises, or cannot be asked now: whoever needs it next finds out. Otherwise why it does not,
    when that is accepted. Raises Refused."""
    now = time.time()
    if _is_trusted(directory / MEMORY, bucket.url, now):
        return ""
    try:
        findings = probe(bucket, ROUNDS if bucket.url.startswith("s3:") else DIRECTORY_ROUNDS)
    except Unreachable as error:
        logger.warning("%s could not be tried: %s", bucket.url, error)
        return ""
    for warning in findings.warnings():
        logger.warning("%s: %s", bucket.url, warning)
    reason = require_safe(bucket.url, findings, accept=accept)
    if not reason:
        _remember(directory / MEMORY, Trusted(bucket.url, now))
    return reason


def require_safe(url: str, findings: Findings, *, accept: bool) -> str:
    """Why the store is not safe, when that is accepted; empty when it is safe. Raises Refused."""
    reason = findings.refusal()
    if reason is None:
        return ""
    if not accept:
        raise Refused(
            f"{url} cannot hold snapshots: {reason}. Take another store; ISCC_SEARCH_SNAPSHOT_UNSAFE=yes accepts this one, "
            "and then two instances may destroy each other's snapshots"
        )
    logger.warning("%s IS NOT SAFE, and is used as ISCC_SEARCH_SNAPSHOT_UNSAFE asks: %s", url, reason)
    return reason


def _remember(path: Path, trusted: Trusted) -> None:
    """A full disk must not keep the index from being read: then the store is tried again at the next start."""
    try:
        write_whole(path, msgspec.json.encode(trusted))
    except NoRoom as error:
        logger.warning("%s", error)


def _is_trusted(path: Path, url: str, now: float) -> bool:
    """A memory that cannot be read is none."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Trusted)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False
    return found.url == url and 0 <= now - found.asked_at < MEMORY_S
