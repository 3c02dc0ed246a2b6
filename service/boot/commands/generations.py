"""`list`, `show` of a generation, `diff`: what can be restored, and how two of them differ."""

from __future__ import annotations

import time

from service.api.schema_snapshots import SnapshotDetail, SnapshotGeneration
from service.boot.bodies import detail_body, generation_body
from service.boot.commands.told import Told, opened_prefix
from service.settings import Settings
from service.tables import members, moment, size, table
from snapshots.errors import Missing
from snapshots.history import Change, Difference, Summary, diff, generations, oldest_restorable
from snapshots.manifest import Manifest
from snapshots.prefix import Prefix

SHORT = 8
"""Of a digest or an id, in tables."""


def list_generations(settings: Settings) -> Told:
    """From the oldest to the newest; the same list as over HTTP."""
    with opened_prefix(settings) as prefix:
        found = generations(prefix, time.time_ns() // 1000)
        oldest_us = oldest_restorable(prefix)
    data: list[SnapshotGeneration] = [generation_body(each) for each in found]
    if not found:
        return Told(data, f"{settings.snapshot_url} holds no generation")
    since = f"every moment since {moment(oldest_us)} can be restored" if oldest_us is not None else "only whole generations can be restored"
    return Told(data, f"{_table(found)}\n\n{since}")


def show_generation(settings: Settings, generation: int) -> Told:
    """Everything that its manifest says."""
    with opened_prefix(settings) as prefix:
        manifest = read_manifest(prefix, generation)
        summary = next((each for each in generations(prefix, time.time_ns() // 1000) if each.generation == generation), None)
    if summary is None:
        raise Missing(f"generation {generation} was pruned just now")
    body = detail_body(summary, manifest)
    files = table(
        ["file", "size", "pieces", "first piece"],
        [(file.path, size(file.bytes), len(file.pieces), file.pieces[0][:SHORT] if file.pieces else "") for file in body.files],
        right=["size", "pieces"],
    )
    return Told(body, f"{_figures(body, manifest)}\n\n{files}")


def differ(settings: Settings, before: int, after: int) -> Told:
    """What became of one generation until another."""
    with opened_prefix(settings) as prefix:
        found = diff(read_manifest(prefix, before), read_manifest(prefix, after))
    return Told(found, _difference(found))


def read_manifest(prefix: Prefix, generation: int) -> Manifest:
    try:
        return prefix.manifest(generation)
    except Missing:
        raise Missing(f"{prefix.bucket.url} has no generation {generation}: it never had, or it was pruned") from None


def _table(found: list[Summary]) -> str:
    headers = ["generation", "kind", "created", "request", "assets", "size", "lineage", "epoch", "restorable", "pinned by"]
    rows = [
        (
            each.generation,
            each.kind,
            moment(each.created_us),
            each.base_sequence,
            each.counts.get("assets", 0),
            size(each.bytes),
            each.lineage[:SHORT],
            each.epoch,
            "with its log" if each.replayable else "as it is" if each.restorable else "no",
            ", ".join(each.pinned_by),
        )
        for each in found
    ]
    return table(headers, rows, right=["generation", "request", "assets", "size", "epoch"])


def _figures(body: SnapshotDetail, manifest: Manifest) -> str:
    parent = f"{body.parent.lineage} at request {body.parent.sequence}" if body.parent is not None else None
    return members(
        [
            ("generation", body.generation),
            ("kind", body.kind),
            ("created", moment(manifest.created_us)),
            ("lineage", body.lineage),
            ("branched off", parent),
            ("epoch", body.epoch),
            ("writer", f"{body.writer} on {body.host}"),
            ("base", f"generation {body.base_generation}, request {body.base_sequence}, {moment(manifest.base_time_us)}"),
            ("log goes on", f"behind object {body.log_number}, request {body.log_sequence}"),
            ("restorable", body.restorable),
            ("log is whole", body.replayable),
            ("pinned by", ", ".join(body.pinned_by) or None),
            ("size", size(body.bytes)),
            *((f"engine {name}", value) for name, value in body.engine.items()),
            *((f"count {name}", value) for name, value in body.counts.items()),
        ]
    )


def _difference(found: Difference) -> str:
    kinds = (("new", found.added), ("gone", found.removed), ("changed", found.changed))
    rows = [_change(kind, each) for kind, changes in kinds for each in changes]
    figures = members(
        [
            ("requests", f"{found.sequences:+d}"),
            ("new bytes", size(found.new_bytes)),
            ("same lineage", found.same_lineage),
            *((f"count {name}", f"{count:+d}") for name, count in found.counts.items()),
        ]
    )
    return f"{figures}\n\n{table(['', 'file', 'before', 'after'], rows, right=['before', 'after'])}" if rows else figures


def _change(kind: str, each: Change) -> tuple[str, str, str, str]:
    return kind, each.path, "" if kind == "new" else size(each.bytes_before), "" if kind == "gone" else size(each.bytes_after)
