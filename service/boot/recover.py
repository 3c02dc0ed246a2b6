"""Restoring to a directory of its own: the newest state, or a moment of the past. The copy gets a new lineage, so it is never mistaken.

Everything happens in `<target>.partial`; the target appears whole. A restore that was cut short uses again what it had fetched.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from service.boot.source import EngineSource
from service.engine.engine import Engine
from service.engine.export import unfit
from service.engine.files import LIVE
from service.engine.opening import make_empty
from service.engine.options import Options
from service.engine.parts import Report
from snapshots.errors import Missing, Refused
from snapshots.fetch import Progress, fetch
from snapshots.files import local_errors, sync_directory
from snapshots.history import Point
from snapshots.log import START, Place, Row
from snapshots.manifest import Parent
from snapshots.mark import FORMAT, Mark, write_mark
from snapshots.prefix import Prefix

FETCHED = "fetched"


class Restored(msgspec.Struct, frozen=True):
    """What a restore gave."""

    directory: Path
    generation: int
    lineage: str
    sequence: int
    time_us: int
    bytes: int
    replayed: int


def restore_to(prefix: Prefix, point: Point, target: Path, opts: Options, progress: Progress, report: Report, *, force: bool) -> Restored:
    """Raises Refused for a target that is not empty, unless `force`: then what is there is removed, at the very end."""
    require_possible(point, target, force=force)
    partial = target.with_name(target.name + ".partial")
    with local_errors(partial):
        partial.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(partial / LIVE, ignore_errors=True)
        _fetch(prefix, point, partial, progress)
        restored = _replay(prefix, point, partial, opts, progress, report)
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
        sync_directory(target.parent)
    return msgspec.structs.replace(restored, directory=target)


def require_possible(point: Point, target: Path, *, force: bool) -> None:
    """Raises Refused when the files are not for this version, or the target is taken."""
    reason = unfit(point.manifest.engine)
    if reason is not None:
        raise Refused(f"generation {point.manifest.generation} cannot be restored: {reason}")
    with local_errors(target):
        if not force and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise Refused(f"{target} is not empty: choose another directory, or give --force to replace it")


def _fetch(prefix: Prefix, point: Point, partial: Path, progress: Progress) -> None:
    folder = partial / FETCHED
    if point.manifest.files:
        fetch(prefix.bucket, point.manifest, folder, progress)
    else:
        shutil.rmtree(folder, ignore_errors=True)
        make_empty(folder)
    folder.rename(partial / LIVE)


def _replay(prefix: Prefix, point: Point, partial: Path, opts: Options, progress: Progress, report: Report) -> Restored:
    manifest = point.manifest
    progress.begin("replaying", 0)
    engine = Engine.open(partial, msgspec.structs.replace(opts, keep_log=False, graphs=False), on_event=report)
    try:
        source = EngineSource(engine, progress.add)
        engine.catch_up()
        time_us = manifest.base_time_us
        if point.until_us is not None or point.until_sequence is not None:
            time_us = _replay_until(prefix, point, source) or time_us
        sequence = engine.sequence
    finally:
        engine.close()
    if point.until_sequence is not None and sequence != point.until_sequence:
        raise Missing(f"the log ends at request {sequence}, request {point.until_sequence} was never written")
    lineage = secrets.token_hex(16)
    write_mark(partial / LIVE, Mark(FORMAT, lineage, 0, "", Place(0, START, sequence), Parent(manifest.lineage, sequence)))
    replayed = sequence - manifest.base_sequence
    return Restored(partial, manifest.generation, lineage, sequence, time_us, manifest.bytes, replayed)


def _replay_until(prefix: Prefix, point: Point, source: EngineSource) -> int:
    """Commit time of the last row that was replayed, 0 when none was."""
    time_us = 0
    place = point.manifest.log
    for found in prefix.follow(point.lineage, place):
        rows = _wanted(found.rows, point)
        source.replay(rows)
        time_us = rows[-1].time_us if rows else time_us
        if len(rows) < len(found.rows):
            return time_us
        place = found.place
    prefix.require_end(point.lineage, place)
    return time_us


def _wanted(rows: Sequence[Row], point: Point) -> list[Row]:
    """The first rows up to the target. Times may go back with the clock; the first row that is too late ends it."""
    wanted = []
    for row in rows:
        late = point.until_us is not None and row.time_us > point.until_us and row.sequence > point.manifest.base_sequence
        beyond = point.until_sequence is not None and row.sequence > point.until_sequence
        if late or beyond:
            break
        wanted.append(row)
    return wanted
