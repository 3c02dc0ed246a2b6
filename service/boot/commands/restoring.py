"""`restore`: a state of the past into a directory of its own, and before that what it would cost."""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from pathlib import Path

import msgspec

from service.boot.commands.making import Watch
from service.boot.commands.told import Told, bucket_directory, opened_prefix
from service.boot.recover import Restored, require_possible, restore_to
from service.boot.terms import options
from service.engine.files import LOCK, DirectoryLock, is_in_use
from service.settings import Settings
from service.tables import members, moment, size
from snapshots.bucket import Entry
from snapshots.catalog import log_span
from snapshots.errors import Refused
from snapshots.fetch import ROOM_LEFT_BYTES, Progress
from snapshots.history import Point, restore_point
from snapshots.paths import log_folder, log_key
from snapshots.prefix import Prefix


class Moment(msgspec.Struct, frozen=True):
    """What is to be restored: one of them, or none for the newest state."""

    at_us: int | None = None
    sequence: int | None = None
    generation: int | None = None
    replay: bool = False
    """With a generation: and the log behind it."""


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore would do. `rows_max` and `log_bytes_max` bound what is replayed; a time may need less."""

    bucket: str
    directory: Path
    generation: int
    lineage: str
    base_sequence: int
    base_time_us: int
    until_sequence: int | None
    until_us: int | None
    bytes: int
    files: int
    rows_max: int
    log_bytes_max: int
    room_needed: int
    room_free: int


def restore(settings: Settings, target: Path, wanted: Moment, watch: Watch, *, force: bool) -> Told:
    """Fetches, checks, replays; the target appears whole."""
    target = target.expanduser().resolve()
    progress = Progress()
    with opened_prefix(settings) as prefix, watch(progress):
        point = _point(prefix, wanted)
        _protect(settings, target)
        with DirectoryLock(target) if (target / LOCK).exists() else nullcontext():  # nobody opens what is about to be replaced
            found = restore_to(prefix, point, target, options(settings), progress, _ignore, force=force)
    return Told(found, _restored(found, settings), _warnings(point))


def plan(settings: Settings, target: Path, wanted: Moment, *, force: bool) -> Told:
    """The same questions, and nothing is changed."""
    target = target.expanduser().resolve()
    with opened_prefix(settings) as prefix:
        point = _point(prefix, wanted)
        _protect(settings, target)
        require_possible(point, target, force=force)
        found = _planned(settings, prefix, point, target)
    return Told(found, _shown(found), _warnings(point))


def _warnings(point: Point) -> tuple[str, ...]:
    return (point.lacks,) if point.lacks else ()


def _point(prefix: Prefix, wanted: Moment) -> Point:
    return restore_point(prefix, at_us=wanted.at_us, sequence=wanted.sequence, generation=wanted.generation, replay=wanted.replay)


def _protect(settings: Settings, target: Path) -> None:
    """Raises Refused for a target whose loss would be worse than no restore."""
    bucket = bucket_directory(settings.snapshot_url)
    if target == Path(target.anchor) or target.is_mount():
        raise Refused(f"{target} cannot be replaced as a whole: choose a directory in it")
    if bucket is not None and _overlap(bucket.resolve(), target):
        raise Refused(f"{target} and the bucket {bucket} must not be one in the other: choose another directory")
    if settings.directory.resolve().is_relative_to(target) and settings.directory.resolve() != target:
        raise Refused(f"{target} holds the data directory {settings.directory}: choose another directory")
    if is_in_use(target):
        raise Refused(f"a process uses the data in {target}: stop it, or choose another directory")


def _overlap(a: Path, b: Path) -> bool:
    return a.is_relative_to(b) or b.is_relative_to(a)


def _planned(settings: Settings, prefix: Prefix, point: Point, target: Path) -> Planned:
    manifest = point.manifest
    replays = point.until_us is not None or point.until_sequence is not None
    entries = _log_behind(prefix, point) if replays else []
    log_bytes = sum(each.size for each in entries)
    return Planned(
        bucket=prefix.bucket.url,
        directory=target,
        generation=manifest.generation,
        lineage=point.lineage,
        base_sequence=manifest.base_sequence,
        base_time_us=manifest.base_time_us,
        until_sequence=point.until_sequence,
        until_us=point.until_us,
        bytes=manifest.bytes,
        files=len(manifest.files),
        rows_max=_rows_max(prefix, point) if replays else 0,
        log_bytes_max=log_bytes,
        room_needed=manifest.bytes + log_bytes + max(ROOM_LEFT_BYTES, settings.disk_free_min_bytes if replays else 0),
        room_free=_free(target),
    )


def _log_behind(prefix: Prefix, point: Point) -> list[Entry]:
    return list(prefix.bucket.list(log_folder(point.lineage), after=log_key(point.lineage, point.manifest.log.number)))


def _rows_max(prefix: Prefix, point: Point) -> int:
    """Requests between the base and the target, or the end of the log when nobody knows which one a time means."""
    if point.until_sequence is not None:
        return point.until_sequence - point.manifest.base_sequence
    last = prefix.log_object(point.lineage, log_span(prefix, point.lineage).tail)
    return max(0, last.header.last - point.manifest.base_sequence) if last is not None else 0


def _free(target: Path) -> int:
    status = os.statvfs(next(parent for parent in target.parents if parent.is_dir()))
    return status.f_bavail * status.f_frsize


def _shown(found: Planned) -> str:
    up_to = moment(found.until_us) if found.until_us is not None else f"request {found.until_sequence or found.base_sequence}"
    lacks = "" if found.room_needed <= found.room_free else ": TOO LITTLE"
    bound = "at most " if found.until_us is not None else ""
    figures = members(
        [
            ("from", found.bucket),
            ("generation", f"{found.generation}, made of request {found.base_sequence}, {moment(found.base_time_us)}"),
            ("up to", up_to),
            ("fetched", f"{size(found.bytes)} in {found.files} files"),
            ("replayed", f"{bound}{found.rows_max} requests, at most {size(found.log_bytes_max)} of log"),
            ("into", found.directory),
            ("room", f"{size(found.room_needed)} needed, {size(found.room_free)} free{lacks}"),
        ]
    )
    return f"{figures}\n\nnothing was changed"


def _restored(found: Restored, settings: Settings) -> str:
    figures = members(
        [
            ("restored", found.directory),
            ("from", f"generation {found.generation} of {settings.snapshot_url}"),
            ("up to", f"request {found.sequence}, {moment(found.time_us)}"),
            ("fetched", size(found.bytes)),
            ("replayed", f"{found.replayed} requests"),
            ("lineage", found.lineage),
        ]
    )
    place = shlex.quote(str(found.directory))
    return (
        f"{figures}\n\nTo serve this copy, as a lineage of its own with a bucket of its own:\n"
        f"  ISCC_SEARCH_SNAPSHOT_URL={shlex.quote((found.directory / 'bucket').as_uri())} ISCC_SEARCH_INDEX_URI={place} tidepool serve\n"
        "To make it the truth of the bucket that it came from, once, with no other instance running:\n"
        f"  ISCC_SEARCH_SNAPSHOT_URL={shlex.quote(settings.snapshot_url)} ISCC_SEARCH_INDEX_URI={place} tidepool serve --adopt-local"
    )


def _ignore(name: str, members: dict[str, object]) -> None:
    """What the engine does by itself is for the log of a service."""
