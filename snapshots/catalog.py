"""What a prefix holds, as restoring, pruning and verifying see it: its manifests, which lineage was in effect when, how far a log reaches.

Checkpoints are pruned, claims are not, so a claim may stand on a checkpoint that is gone. Row objects of the log are pruned from the
oldest on, fences are not, so single fences may stand before the part of a log that is whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import msgspec

from snapshots.errors import Missing
from snapshots.log import Place
from snapshots.manifest import Manifest
from snapshots.paths import log_folder, parse_log_key
from snapshots.prefix import READ_AHEAD, Prefix
from snapshots.retention import WINDOW_US


class Reign(msgspec.Struct, frozen=True):
    """The time in which one lineage was in effect, as far as the manifests tell."""

    lineage: str
    manifests: tuple[Manifest, ...]
    from_us: int
    """When its first manifest was created that is still there."""
    until_us: int | None
    """When the first manifest of the next lineage was created that is still there; None for the newest lineage."""
    adjoins: bool
    """No generation is missing between this reign and the one before."""


class LogSpan(msgspec.Struct, frozen=True):
    """The log of a lineage: all numbers from `first` to `tail` are there. Without any object `first` is 1 and `tail` 0."""

    lineage: str
    first: int
    tail: int

    def goes_on(self, place: Place) -> bool:
        """Whether everything behind a place is there."""
        return self.first - 1 <= place.number <= self.tail


def read_manifests(prefix: Prefix) -> list[Manifest]:
    """All that exist, by generation. Raises Corrupt or Refused when one cannot be read: who does not know all must not delete."""
    newest = prefix.newest()
    if newest is None:
        return []
    listed = prefix.generations()
    unlisted = range(max(listed, default=0) + 1, newest.generation + 1)
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="manifests") as pool:
        found = pool.map(lambda generation: _read(prefix, generation), [*listed, *unlisted])
        return [manifest for manifest in found if manifest is not None]


def _read(prefix: Prefix, generation: int) -> Manifest | None:
    try:
        return prefix.manifest(generation)
    except Missing:  # pruned since it was listed
        return None


def bases(manifests: Sequence[Manifest]) -> list[Manifest]:
    """Where a restore can begin: the checkpoints, and the manifests of an index that began empty."""
    return [each for each in manifests if each.kind == "checkpoint" or each.base_generation == 0]


def is_restorable(manifest: Manifest, manifests: Sequence[Manifest]) -> bool:
    """Whether its files are referenced. `manifests` are all; a claim whose checkpoint was pruned has none, unless it is the newest."""
    there = {each.generation for each in manifests}
    return manifest.base_generation == 0 or manifest.base_generation in there or manifest is manifests[-1]


def piece_sizes(manifests: Sequence[Manifest]) -> dict[str, int]:
    """All blobs that the manifests name, with their sizes."""
    return {
        digest: min(file.piece_bytes, file.size - number * file.piece_bytes)
        for each in manifests
        for file in each.files
        for number, digest in enumerate(file.pieces)
    }


def reigns(manifests: Sequence[Manifest]) -> list[Reign]:
    """From the oldest to the newest."""
    runs: list[list[Manifest]] = []
    for each in manifests:
        if not runs or runs[-1][0].lineage != each.lineage:
            runs.append([])
        runs[-1].append(each)
    found = []
    for at, run in enumerate(runs):
        until_us = runs[at + 1][0].created_us if at + 1 < len(runs) else None
        adjoins = at > 0 and runs[at - 1][-1].generation + 1 == run[0].generation
        found.append(Reign(run[0].lineage, tuple(run), run[0].created_us, until_us, adjoins))
    return found


def window_base(reign: Reign, now_us: int, window_us: int = WINDOW_US) -> Manifest | None:
    """The newest checkpoint that is older than the window: every time in the window can be reached from there.

    None: there is no such checkpoint, and the log is needed whole.
    """
    older = [each for each in reign.manifests if each.kind == "checkpoint" and each.created_us <= now_us - window_us]
    return older[-1] if older else None


def is_past(reign: Reign, now_us: int, window_us: int = WINDOW_US) -> bool:
    """Whether the lineage was left before the window began."""
    return reign.until_us is not None and reign.until_us <= now_us - window_us


def log_span(prefix: Prefix, lineage: str) -> LogSpan:
    """Lists the log of a lineage once."""
    first, tail = 1, 0
    for entry in prefix.bucket.list(log_folder(lineage)):
        parsed = parse_log_key(entry.key)
        if parsed is None:
            continue
        if parsed[1] != tail + 1:
            first = parsed[1]
        tail = parsed[1]
    return LogSpan(lineage, first, tail)


def iso(time_us: int) -> str:
    """A time as people write it, exact."""
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
