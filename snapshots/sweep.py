"""Deleting blobs that no manifest names. Two sweeps, at least the window apart, must find a blob unreferenced.

The first writes what it found to a list. When the list is old enough, a later sweep deletes what is still unreferenced and not young,
looks whether it is gone, and removes the list when all of it is. Just before each delete we look again: a checkpoint may have begun to
use a blob. One that is being made writes again every blob that it needs and that is older than half the window, unless the newest
manifest names it.

Uploads in parts that were never finished are no blobs yet, and cost as much: those that are older than the window are aborted.

Which manifests count: all checkpoints, and the newest manifest whatever it is. A claim repeats the files of a checkpoint. While that is
there the claim adds nothing, and when retention let it go, the files go as well: a claim is never deleted and would hold them for ever.

| we die | then |
|---|---|
| before the list | nothing happened |
| after the list | the next sweep finds it |
| between deletes | the list is still there: the next sweep deletes the rest |
| while old uploads are aborted | the next sweep finds the rest |
| before the list is removed | the next sweep finds all of it gone, and removes it |
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import msgspec

from snapshots.bucket import Entry
from snapshots.catalog import is_restorable, read_manifests
from snapshots.errors import Missing, Refused, Unreachable
from snapshots.failpoints import reach
from snapshots.manifest import Manifest
from snapshots.paths import BLOBS, GARBAGE, blob_key, garbage_key, parse_blob_key, parse_garbage_key
from snapshots.prefix import Prefix
from snapshots.retention import WINDOW_US, is_old


class Orphan(msgspec.Struct, frozen=True):
    """A blob that no manifest names."""

    digest: str
    size: int


class List(msgspec.Struct, frozen=True):
    """What one sweep found. `key` is its name in the bucket."""

    key: str
    digests: tuple[str, ...]


class SweepPlan(msgspec.Struct, frozen=True):
    """What a sweep would do at `now_us`."""

    now_us: int
    blobs: int
    bytes: int
    orphans: int
    orphan_bytes: int
    """All that no manifest names: `found`, `doomed`, and what is on a list that is too young."""
    found: tuple[Orphan, ...] = ()
    """To be written to the list `found_key`."""
    found_key: str = ""
    doomed: tuple[Orphan, ...] = ()
    """To be deleted."""
    ripe: tuple[List, ...] = ()
    """Lists that are old enough; removed when nothing of them is left to delete."""
    missing: tuple[str, ...] = ()
    """Blobs that a manifest names and the store does not have: a loss."""


class Swept(msgspec.Struct, frozen=True):
    """What a sweep did. `spared`: in use again. `undeleted`: still there after the store deleted them."""

    listed: int
    deleted: int
    deleted_bytes: int
    spared: tuple[str, ...]
    undeleted: tuple[str, ...]
    aborted: int = 0
    """Uploads of blobs that were never finished."""
    unaborted: str = ""
    """Why such uploads stay, when the store does not let us; its own rules may remove them."""


def plan(prefix: Prefix, now_us: int) -> SweepPlan:
    """Reads only. Raises Corrupt or Refused when a manifest cannot be read: nothing is deleted then."""
    blobs = _blobs(prefix)  # before the manifests: a blob that a new manifest names must not look unreferenced
    referenced = _referenced(read_manifests(prefix))
    unreferenced = {digest: entry for digest, entry in blobs.items() if digest not in referenced}
    ripe, waiting = _lists(prefix, now_us)
    listed = {digest for each in ripe for digest in each.digests}
    doomed = [digest for digest, entry in unreferenced.items() if digest in listed and is_old(entry.modified_s, now_us)]
    found = _orphans(blobs, unreferenced.keys() - waiting - set(doomed))
    return SweepPlan(
        now_us=now_us,
        blobs=len(blobs),
        bytes=sum(entry.size for entry in blobs.values()),
        orphans=len(unreferenced),
        orphan_bytes=sum(entry.size for entry in unreferenced.values()),
        found=found,
        found_key=garbage_key(now_us, secrets.token_hex(8)) if found else "",
        doomed=_orphans(blobs, set(doomed)),
        ripe=tuple(ripe),
        missing=tuple(each for each in sorted(referenced - blobs.keys()) if prefix.bucket.head(blob_key(each)) is None),
    )


def carry_out(prefix: Prefix, plan: SweepPlan) -> Swept:
    """Writes the new list, deletes what is on the old ones, removes those."""
    if plan.found:
        prefix.bucket.create(plan.found_key, msgspec.json.encode([each.digest for each in plan.found]))
    reach("sweep.listed")
    deleted, size, spared, undeleted = 0, 0, [], []
    referenced = _referenced(read_manifests(prefix)) if plan.doomed else set()
    for each in plan.doomed:
        key = blob_key(each.digest)
        if each.digest in referenced or not _still_old(prefix.bucket.head(key), plan.now_us):
            spared.append(key)
        elif prefix.bucket.delete(key):
            deleted, size = deleted + 1, size + each.size
        else:
            undeleted.append(key)
        reach("sweep.deleted")
    undeleted += _remove_lists(prefix, plan.ripe, set(undeleted))
    aborted, unaborted = _abort_uploads(prefix, plan.now_us)
    return Swept(len(plan.found), deleted, size, tuple(spared), tuple(undeleted), aborted, unaborted)


def _abort_uploads(prefix: Prefix, now_us: int) -> tuple[int, str]:
    """Those that are old. Not all stores offer that, nobody sees what is left, and all else is done by now: so it is no error."""
    try:
        return prefix.bucket.abort_uploads(BLOBS, (now_us - WINDOW_US) / 1e6), ""
    except (Refused, Unreachable) as error:
        return 0, str(error)


def _blobs(prefix: Prefix) -> dict[str, Entry]:
    """What is no blob's name is not ours to delete."""
    found = ((parse_blob_key(entry.key), entry) for entry in prefix.bucket.list(BLOBS))
    return {digest: entry for digest, entry in found if digest is not None}


def _referenced(manifests: Sequence[Manifest]) -> set[str]:
    return {digest for each in manifests if is_restorable(each, manifests) for digest in each.pieces}


def _lists(prefix: Prefix, now_us: int) -> tuple[list[List], set[str]]:
    """The lists that are old enough, and what is on the others."""
    ripe: list[List] = []
    waiting: set[str] = set()
    for entry in list(prefix.bucket.list(GARBAGE)):
        made_us = parse_garbage_key(entry.key)
        if made_us is None:
            continue
        digests = _read_list(prefix, entry.key)
        if made_us <= now_us - WINDOW_US and is_old(entry.modified_s, now_us):
            ripe.append(List(entry.key, digests))
        else:
            waiting.update(digests)
    return ripe, waiting


def _read_list(prefix: Prefix, key: str) -> tuple[str, ...]:
    """A list that cannot be read counts as empty: it goes when it is old, and what was on it is found anew."""
    try:
        return msgspec.json.decode(prefix.bucket.get(key), type=tuple[str, ...])
    except (Missing, msgspec.DecodeError, UnicodeDecodeError):
        return ()


def _orphans(blobs: dict[str, Entry], digests: set[str]) -> tuple[Orphan, ...]:
    return tuple(Orphan(digest, blobs[digest].size) for digest in sorted(digests))


def _still_old(entry: Entry | None, now_us: int) -> bool:
    """Also when it is gone: deleting it again is harmless."""
    return entry is None or is_old(entry.modified_s, now_us)


def _remove_lists(prefix: Prefix, ripe: Sequence[List], undeleted: set[str]) -> list[str]:
    """Names of lists that the store did not delete. One whose blobs are not all gone stays: they are tried again."""
    failed = []
    for each in ripe:
        if undeleted.isdisjoint(blob_key(digest) for digest in each.digests) and not prefix.bucket.delete(each.key):
            failed.append(each.key)
        reach("sweep.finished")
    return failed
