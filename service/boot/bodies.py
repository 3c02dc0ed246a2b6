"""From what snapshots know of a generation to the bodies that programs get, over HTTP and on the command line."""

from __future__ import annotations

from typing import Any

from service.api.schema_snapshots import SnapshotCreated, SnapshotDetail, SnapshotFile, SnapshotGeneration, SnapshotParent, time_of
from snapshots.history import Summary
from snapshots.manifest import Manifest
from snapshots.publish import Published


def generation_body(found: Summary) -> SnapshotGeneration:
    return SnapshotGeneration(**_listed(found))


def detail_body(found: Summary, manifest: Manifest) -> SnapshotDetail:
    parent = manifest.parent
    return SnapshotDetail(
        **_listed(found),
        writer=manifest.writer,
        host=manifest.host,
        log_number=manifest.log.number,
        log_sequence=manifest.log.sequence,
        engine=manifest.engine,
        parent=SnapshotParent(parent.lineage, parent.sequence) if parent is not None else None,
        files=[SnapshotFile(file.path, file.size, file.pieces) for file in manifest.files],
    )


def created_body(published: Published) -> SnapshotCreated:
    """Nobody can have pinned it, and nothing of its log can be pruned yet."""
    return SnapshotCreated(
        **_members(published.manifest),
        pinned_by=[],
        restorable=True,
        replayable=True,
        uploaded_bytes=published.uploaded_bytes,
        known_bytes=published.known_bytes,
        seconds=published.seconds,
    )


def _listed(each: Summary) -> dict[str, Any]:
    return {**_members(each), "pinned_by": list(each.pinned_by), "restorable": each.restorable, "replayable": each.replayable}


def _members(each: Summary | Manifest) -> dict[str, Any]:
    """What all bodies of a generation have."""
    return {
        "generation": each.generation,
        "kind": each.kind,
        "created": time_of(each.created_us),
        "lineage": each.lineage,
        "epoch": each.epoch,
        "base_generation": each.base_generation,
        "base_sequence": each.base_sequence,
        "base_time": time_of(each.base_time_us),
        "bytes": each.bytes,
        "counts": each.counts,
    }
