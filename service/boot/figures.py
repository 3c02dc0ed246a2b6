"""From what keeps the bucket to the numbers and sentences that the metrics and `/status` show. Reads memory only, never the bucket."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import msgspec

from service.api.schema_snapshots import SnapshotBase, SnapshotCheck, SnapshotDrill, SnapshotStatus, time_of
from service.boot.arrival import Arrival
from service.boot.chores import Chores, Done
from service.boot.drill import Drilled
from service.boot.ended import Failure
from service.boot.jobs import Jobs
from service.boot.keeper import Keeper
from service.engine.engine import Engine
from service.settings import Settings
from snapshots.manifest import Manifest
from snapshots.ship import OBJECT_BYTES
from snapshots.unshipped import unshipped_files

DIRECTORY, S3 = "directory", "s3"
SAME_DISK = (
    "a directory on the disk of the data: protects against damaged files and against mistakes, not against losing the disk; "
    "ISCC_SEARCH_SNAPSHOT_URL=s3://bucket/prefix does that"
)
OTHER_DIRECTORY = (
    "a directory: protects against damaged files and against mistakes, and against losing the disk of the data if it is on another one; "
    "ISCC_SEARCH_SNAPSHOT_URL=s3://bucket/prefix also protects against losing the machine"
)
OBJECT_STORAGE = "object storage: protects against damaged files, against mistakes, and against losing the disk or the machine"


class Running(msgspec.Struct, frozen=True):
    """What there is once the bucket is claimed."""

    engine: Engine
    keeper: Keeper
    chores: Chores
    jobs: Jobs


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Each member is a metric of `service.telemetry`. None: not known, or not yet."""

    snapshot_last_success_timestamp_seconds: float | None = None
    snapshot_lag_seconds: float | None = None
    snapshot_lag_rows: int | None = None
    snapshot_backlog_bytes: int | None = None
    snapshot_base_sequence: int | None = None
    snapshot_generation: int | None = None
    snapshot_epoch: int | None = None
    snapshot_unsafe_store: int | None = None
    snapshot_write_pause_seconds: float | None = None
    snapshot_duration_seconds: dict[str, float] | None = None
    snapshot_uploads: dict[str, int] | None = None
    snapshot_upload_bytes: int | None = None
    snapshot_dedup_bytes: int | None = None
    snapshot_log_objects: int | None = None
    snapshot_log_rows: int | None = None
    snapshot_log_bytes: int | None = None
    snapshot_fenced: int | None = None
    snapshot_errors: dict[str, int] | None = None
    restore_duration_seconds: float | None = None
    restore_bytes: int | None = None
    verify_last_success_timestamp_seconds: float | None = None
    verify_problems: int | None = None
    verify_failures: int | None = None
    drill_last_success_timestamp_seconds: float | None = None
    drill_problems: int | None = None
    drill_failures: int | None = None
    gc_deleted: int | None = None
    remote_objects: int | None = None
    remote_bytes: int | None = None
    orphan_objects: int | None = None
    lmdb_stale_readers: int | None = None
    disk_free_bytes: int | None = None
    unshipped_files: int | None = None
    last_failure_timestamp_seconds: dict[str, float] | None = None
    failed_starts: dict[str, int] | None = None


def figures(
    directory: Path, engine: Engine | None, arrival: Arrival | None, running: Running | None, unsafe: str, failure: Failure | None
) -> Figures:
    """All that is known now."""
    found = Figures(
        disk_free_bytes=free_bytes(directory),
        lmdb_stale_readers=engine.stale_readers if engine is not None else None,
        unshipped_files=len(unshipped_files(directory)),
        last_failure_timestamp_seconds={str(code): at for code, at in failure.times.items()} if failure is not None else None,
        failed_starts={failure.before: failure.starts} if failure is not None else None,
    )
    if arrival is not None:
        restored = arrival.restored
        found = msgspec.structs.replace(
            found,
            snapshot_unsafe_store=int(bool(unsafe)),
            restore_duration_seconds=restored.seconds if restored is not None else None,
            restore_bytes=restored.bytes if restored is not None else 0,
        )
    return found if running is None else msgspec.structs.replace(found, **_shipping(running), **_checkpoints(running), **_chores(running))


def background(engine: Engine, running: Running | None) -> dict[str, int]:
    """Pieces of background work that wait, by their kind. Shipping is counted in log objects: a bucket that keeps up leaves none or one."""
    queue = engine.background_queue()
    if running is not None:
        queue["ship"] = -(-engine.log_bytes // OBJECT_BYTES)
        queue["checkpoint"] = int(bool(running.keeper.due()))
    return queue


def free_bytes(directory: Path) -> int | None:
    try:
        status = os.statvfs(directory)
    except FileNotFoundError:  # before the first start has made it
        return None
    return status.f_bavail * status.f_frsize


def _shipping(running: Running) -> dict[str, object]:
    engine, keeper = running.engine, running.keeper
    mark, shipped = keeper.shipper.mark, keeper.shipper.figures
    return {
        "snapshot_lag_seconds": keeper.lag_s(),
        "snapshot_lag_rows": lag_rows(running),
        "snapshot_backlog_bytes": engine.log_bytes,
        "snapshot_epoch": mark.epoch,
        "snapshot_log_objects": shipped.objects,
        "snapshot_log_rows": shipped.rows,
        "snapshot_log_bytes": shipped.bytes,
        "snapshot_fenced": keeper.fenced,
        "snapshot_errors": {
            "ship": shipped.failures,
            "checkpoint": keeper.checkpoints.failed,
            **{name: count for name, count in running.jobs.failures.items() if name != "checkpoint"},
        },
    }


def _checkpoints(running: Running) -> dict[str, object]:
    newest, done = running.keeper.newest, running.keeper.checkpoints
    return {
        "snapshot_last_success_timestamp_seconds": _made_s(newest),
        "snapshot_base_sequence": newest.base_sequence,
        "snapshot_generation": newest.generation,
        "snapshot_write_pause_seconds": done.write_pause_s if done.done else None,
        "snapshot_duration_seconds": done.last_seconds,
        "snapshot_uploads": {"ok": done.done, "failed": done.failed},
        "snapshot_upload_bytes": done.uploaded_bytes,
        "snapshot_dedup_bytes": done.known_bytes,
    }


def _chores(running: Running) -> dict[str, object]:
    done = running.chores.done
    drilled = done.drilled
    looked = done.pruned_generation > 0
    return {
        "verify_last_success_timestamp_seconds": done.verified_good_at or None,
        "verify_problems": len(done.verify_problems) if done.verified_generation else None,
        "verify_failures": done.verify_failures,
        "drill_last_success_timestamp_seconds": done.drilled_good_at or None,
        "drill_problems": len(drilled.problems) if drilled is not None else None,
        "drill_failures": done.drill_failures,
        "gc_deleted": done.deleted,
        "remote_objects": done.blobs if looked else None,
        "remote_bytes": done.bytes if looked else None,
        "orphan_objects": done.orphans if looked else None,
    }


def _made_s(newest: Manifest) -> float | None:
    """When the base was made. A claim does not say: then the last write that the base holds, which is a little earlier."""
    made_us = newest.created_us if newest.kind == "checkpoint" else newest.base_time_us
    return made_us / 1e6 if made_us else None


def lag_rows(running: Running) -> int:
    return max(0, running.engine.sequence - running.keeper.shipper.mark.log.sequence)


def status(settings: Settings, running: Running | None, trouble: str, unsafe: str) -> SnapshotStatus:
    """`trouble`: why nothing is shipped while there is no keeper."""
    told = SnapshotStatus(
        bucket=settings.snapshot_url,
        kind=S3 if settings.snapshot_url.startswith("s3:") else DIRECTORY,
        protection=protection(settings.snapshot_url, settings.directory),
        durability=settings.durability,
        owner=running is not None,
        unsafe_store=unsafe or None,
        trouble=trouble or None,
    )
    return told if running is None else _with_keeper(told, running)


def _with_keeper(told: SnapshotStatus, running: Running) -> SnapshotStatus:
    keeper, done = running.keeper, running.chores.done
    mark, newest = keeper.shipper.mark, keeper.newest
    return msgspec.structs.replace(
        told,
        trouble=str(keeper.shipper.trouble) if keeper.shipper.trouble is not None else told.trouble,
        lag_seconds=round(keeper.lag_s(), 3),
        lag_rows=lag_rows(running),
        backlog_bytes=running.engine.log_bytes,
        sequence=running.engine.sequence,
        shipped_sequence=mark.log.sequence,
        lineage=mark.lineage,
        epoch=mark.epoch,
        generation=newest.generation,
        checkpoint=_base(newest),
        checkpoint_trouble=keeper.checkpoints.trouble or None,
        oldest_restorable=time_of(done.oldest_us),
        verified=check(done),
        verified_good_at=time_of(round(done.verified_good_at * 1e6)),
        drill_good_at=time_of(round(done.drilled_good_at * 1e6)),
        drill=shown_drill(done.drilled) if done.drilled is not None else None,
    )


def protection(url: str, directory: Path) -> str:
    """Decided by the names alone: asking where a directory is mounted could hang."""
    if url.startswith("s3:"):
        return OBJECT_STORAGE
    return SAME_DISK if url.startswith(directory.as_uri() + "/") else OTHER_DIRECTORY


def check(done: Done) -> SnapshotCheck | None:
    """None before the first one."""
    if not done.verified_generation:
        return None
    when = known_time(round(done.verified_at * 1e6))
    return SnapshotCheck(done.verified_generation, when, not done.verify_problems, done.verify_problems)


def shown_drill(found: Drilled) -> SnapshotDrill:
    return SnapshotDrill(
        generation=found.generation,
        sequence=found.sequence,
        time=known_time(found.at_us),
        ok=not found.problems,
        problems=found.problems,
        queries=found.queries,
        bytes=found.bytes,
        seconds=found.seconds,
    )


def known_time(time_us: int) -> datetime:
    """A time that everything has which was done."""
    found = time_of(time_us)
    if found is None:
        raise AssertionError("what was done has a time")
    return found


def _base(newest: Manifest) -> SnapshotBase | None:
    """None while everything is in the log."""
    if not newest.base_generation:
        return None
    return SnapshotBase(newest.base_generation, newest.base_sequence, time_of(newest.base_time_us))


def flatten(stats: msgspec.Struct) -> dict[str, int]:
    """Members of nested structs under their own names."""
    figures: dict[str, int] = {}
    for name, value in msgspec.structs.asdict(stats).items():
        figures.update(flatten(value) if isinstance(value, msgspec.Struct) else {name: int(value)})
    return figures
