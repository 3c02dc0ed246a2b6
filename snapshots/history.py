"""What can be restored: the generations of a prefix, how two of them differ, and from where to restore a moment of the past."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from snapshots.catalog import LogSpan, Reign, bases, is_restorable, iso, log_span, piece_sizes, read_manifests, reigns
from snapshots.errors import Missing, Refused
from snapshots.manifest import Manifest
from snapshots.pins import pinned
from snapshots.prefix import Prefix


class Summary(msgspec.Struct, frozen=True):
    """A generation, for a table. `bytes` is what its files take, shared or not."""

    generation: int
    kind: str
    created_us: int
    lineage: str
    epoch: int
    base_generation: int
    base_sequence: int
    base_time_us: int
    bytes: int
    counts: dict[str, int]
    pinned_by: tuple[str, ...]
    restorable: bool
    """Its base can be restored exactly."""
    replayable: bool
    """And the log behind it is whole, so that every later moment of its lineage can be."""


class Change(msgspec.Struct, frozen=True):
    """A file that only one of two generations has (the other size is 0), or that differs."""

    path: str
    bytes_before: int
    bytes_after: int


class Difference(msgspec.Struct, frozen=True):
    """What became of one generation until another."""

    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    changed: tuple[Change, ...]
    new_bytes: int
    """Of the pieces that only the second names."""
    counts: dict[str, int]
    """By how much a count grew; only those that did change."""
    sequences: int
    same_lineage: bool


class Point(msgspec.Struct, frozen=True):
    """From where to restore a moment: the base, and up to where its log is replayed. With neither bound nothing is replayed."""

    manifest: Manifest
    lineage: str
    until_us: int | None = None
    until_sequence: int | None = None
    lacks: str = ""
    """What was there behind the end of the log and is lost, in words."""


def generations(prefix: Prefix, now_us: int) -> list[Summary]:
    """From the oldest to the newest."""
    manifests = read_manifests(prefix)
    spans = {lineage: log_span(prefix, lineage) for lineage in {each.lineage for each in manifests}}
    pins = pinned(prefix, now_us)
    return [_summary(each, manifests, spans[each.lineage], pins) for each in manifests]


def diff(before: Manifest, after: Manifest) -> Difference:
    old = {file.path: file for file in before.files}
    new = {file.path: file for file in after.files}
    both = sorted(old.keys() & new.keys())
    sizes = piece_sizes([after])
    names = sorted(before.counts.keys() | after.counts.keys())
    growth = {name: after.counts.get(name, 0) - before.counts.get(name, 0) for name in names}
    return Difference(
        added=tuple(Change(path, 0, new[path].size) for path in sorted(new.keys() - old.keys())),
        removed=tuple(Change(path, old[path].size, 0) for path in sorted(old.keys() - new.keys())),
        changed=tuple(Change(path, old[path].size, new[path].size) for path in both if old[path] != new[path]),
        new_bytes=sum(sizes[digest] for digest in after.pieces - before.pieces),
        counts={name: count for name, count in growth.items() if count},
        sequences=after.base_sequence - before.base_sequence,
        same_lineage=before.lineage == after.lineage,
    )


def restore_point(
    prefix: Prefix, *, at_us: int | None = None, sequence: int | None = None, generation: int | None = None, replay: bool = False
) -> Point:
    """Where to begin for a time, for a sequence of the newest lineage, for an exact generation, or (without any) for the end of the log.

    `replay`: the generation, and the whole log behind it. For when the files of a newer one are damaged.

    Raises Missing with what can be restored instead.
    """
    if sum(each is not None for each in (at_us, sequence, generation)) > 1:
        raise Refused("a time, a sequence or a generation can be restored: give one of them")
    if generation is not None:
        return _with_log(prefix, _exact(prefix, generation)) if replay else _exact(prefix, generation)
    manifests = read_manifests(prefix)
    if not manifests:
        raise Missing(f"{prefix.bucket.url} holds no snapshot")
    if at_us is not None:
        return _at_time(prefix, manifests, at_us)
    return _at_sequence(prefix, manifests, sequence)


def oldest_restorable(prefix: Prefix) -> int | None:
    """Every time from this one on can be restored, as far as the index existed. None: nothing can."""
    return _oldest(prefix, read_manifests(prefix))


def _summary(manifest: Manifest, manifests: Sequence[Manifest], span: LogSpan, pins: dict[int, list[str]]) -> Summary:
    restorable = is_restorable(manifest, manifests)
    return Summary(
        generation=manifest.generation,
        kind=manifest.kind,
        created_us=manifest.created_us,
        lineage=manifest.lineage,
        epoch=manifest.epoch,
        base_generation=manifest.base_generation,
        base_sequence=manifest.base_sequence,
        base_time_us=manifest.base_time_us,
        bytes=manifest.bytes,
        counts=manifest.counts,
        pinned_by=tuple(pins.get(manifest.generation, ())),
        restorable=restorable,
        replayable=restorable and span.goes_on(manifest.log),
    )


def _exact(prefix: Prefix, generation: int) -> Point:
    """Reads no other manifest: one that is damaged must not stand in the way."""
    try:
        found = prefix.manifest(generation)
    except Missing:
        raise Missing(f"{prefix.bucket.url} has no generation {generation}: it never had, or it was pruned") from None
    there = prefix.generations()
    if found.base_generation not in (0, *there) and generation != max(there, default=0):
        raise Missing(f"generation {generation} stands on the checkpoint {found.base_generation}, which was pruned")
    return Point(found, found.lineage)


def _with_log(prefix: Prefix, point: Point) -> Point:
    span = log_span(prefix, point.lineage)
    if not span.goes_on(point.manifest.log):
        raise Missing(f"the log behind generation {point.manifest.generation} was pruned: it can be restored only as it was made")
    end = _end(prefix, point.manifest, span)
    return msgspec.structs.replace(point, until_sequence=end) if end > point.manifest.base_sequence else point


def _at_time(prefix: Prefix, manifests: Sequence[Manifest], at_us: int) -> Point:
    reign = _in_effect(prefix, manifests, at_us)
    fit = [each for each in bases(reign.manifests) if each.base_time_us <= at_us]
    if not fit:
        raise _missing(prefix, manifests, f"no checkpoint of {iso(at_us)} or before is left")
    best = max(fit, key=lambda each: (each.base_sequence, each.generation))
    if not log_span(prefix, reign.lineage).goes_on(best.log):
        raise _missing(prefix, manifests, f"the log that leads from generation {best.generation} to {iso(at_us)} was pruned", best)
    return Point(best, reign.lineage, until_us=at_us)


def _at_sequence(prefix: Prefix, manifests: Sequence[Manifest], sequence: int | None) -> Point:
    """None: the last of the log."""
    newest = manifests[-1]
    seen = prefix.hinted(newest.lineage)
    span = log_span(prefix, newest.lineage)
    end = _end(prefix, newest, span)
    wanted = end if sequence is None else sequence
    if wanted > end:
        raise Missing(f"request {wanted} is not in {prefix.bucket.url}: lineage {newest.lineage} ends at {end}")
    ours = [each for each in manifests if each.lineage == newest.lineage]
    fit = [each for each in bases(ours) if each.base_sequence <= wanted] or ([newest] if sequence is None else [])
    if not fit:
        raise _missing(prefix, manifests, f"no checkpoint of request {wanted} or before is left in lineage {newest.lineage}")
    best = max(fit, key=lambda each: (each.base_sequence, each.generation))
    if best.base_sequence < wanted and not span.goes_on(best.log):
        raise _missing(prefix, manifests, f"the log that leads from generation {best.generation} to request {wanted} was pruned", best)
    lacks = _lost_end(prefix, newest, span, seen) if sequence is None else ""
    return Point(best, newest.lineage, until_sequence=wanted if best.base_sequence < wanted else None, lacks=lacks)


def _lost_end(prefix: Prefix, newest: Manifest, span: LogSpan, seen: int) -> str:
    """Empty when nobody knows of more than is there. No error: a copy of what is left is the way out."""
    if seen <= max(span.tail, newest.log.number):
        return ""
    return (
        f"the log of {prefix.bucket.url} went on to object {seen}, which is missing: the end of the log is lost, with writes "
        "that were acknowledged, and this is the newest state without them"
    )


def _end(prefix: Prefix, newest: Manifest, span: LogSpan) -> int:
    """The last sequence of the newest lineage."""
    last = prefix.log_object(newest.lineage, span.tail) if span.tail else None
    return max(newest.base_sequence, last.header.last if last is not None else 0)


def _in_effect(prefix: Prefix, manifests: Sequence[Manifest], at_us: int) -> Reign:
    """The lineage of a time: that of the newest manifest created by then."""
    found = reigns(manifests)
    at = max((number for number, each in enumerate(found) if each.from_us <= at_us), default=None)
    if at is None:
        raise _missing(prefix, manifests, f"nothing that was there at {iso(at_us)} is left")
    if at + 1 < len(found) and not found[at + 1].adjoins:
        ended_us = _ended_us(prefix, found[at].lineage)
        if ended_us is not None and ended_us <= at_us:
            raise _missing(prefix, manifests, f"the lineage of {iso(at_us)} is not known any more, its first checkpoints were pruned")
    return found[at]


def _ended_us(prefix: Prefix, lineage: str) -> int | None:
    """When a lineage that was left got the fence that ended it: the last object of its log."""
    tail = log_span(prefix, lineage).tail
    last = prefix.log_object(lineage, tail) if tail else None
    return last.header.created_us if last is not None else None


def _oldest(prefix: Prefix, manifests: Sequence[Manifest]) -> int | None:
    """From the newest lineage back, as long as all of its time can be restored."""
    oldest: int | None = None
    for reign in reversed(reigns(manifests)):
        span = log_span(prefix, reign.lineage)
        first = min((each.base_time_us for each in bases(reign.manifests) if span.goes_on(each.log)), default=None)
        if first is None or not span.goes_on(reign.manifests[-1].log):
            break
        oldest = max(first, reign.from_us)
        if oldest > reign.from_us or not reign.adjoins:
            break
    return oldest


def _missing(prefix: Prefix, manifests: Sequence[Manifest], why: str, base: Manifest | None = None) -> Missing:
    """The error, with what can be restored instead."""
    oldest = _oldest(prefix, manifests)
    instead = f"the oldest time that can be restored is {iso(oldest)}" if oldest is not None else "no time can be restored"
    if base is not None:
        instead += f"; generation {base.generation} can be restored as it was made, at request {base.base_sequence}"
    return Missing(f"{why}: {instead}")
