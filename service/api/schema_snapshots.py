"""The bodies of the routes of snapshots as types. What they say of the bucket is what this process knows of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Time = Annotated[datetime, Meta(tz=True, examples=["2026-11-20T10:15:00.000000Z"])]
Number = Annotated[int, Meta(ge=0)]
Bytes = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]


def time_of(time_us: int | None) -> datetime | None:
    """Exact, which a float of seconds is not. None for a time that is not known: None or 0."""
    return _EPOCH + timedelta(microseconds=time_us) if time_us else None


class SnapshotBase(msgspec.Struct, frozen=True):
    """The newest checkpoint: from there a restore begins."""

    generation: Number
    sequence: Annotated[Number, Meta(description="The last request that it holds.")]
    time: Annotated[Time | None, Meta(description="When that request was committed, null when it holds none.")]


class SnapshotCheck(msgspec.Struct, frozen=True):
    """The last time that a part of the bucket was read and compared with its digests."""

    generation: Annotated[Number, Meta(description="The newest one at that time.")]
    time: Time
    ok: bool
    problems: Annotated[list[str], Meta(description="One sentence for each thing that is wrong.")]


class SnapshotDrill(msgspec.Struct, frozen=True):
    """A restore on trial: what the bucket gives was compared with the running index."""

    generation: Annotated[Number, Meta(description="Where the restore began.")]
    sequence: Annotated[Number, Meta(description="The request up to which it was replayed.")]
    time: Time
    ok: Annotated[bool, Meta(description="The copy has the same assets and gives the same answers.")]
    problems: Annotated[list[str], Meta(description="One sentence for each thing that the copy has or answers otherwise.")]
    queries: Annotated[Number, Meta(description="Searches that were compared.")]
    bytes: Annotated[Bytes, Meta(description="Size of the files that were fetched.")]
    seconds: Seconds


class SnapshotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the bucket stands, as far as this process knows without asking it."""

    bucket: Annotated[str, Meta(description="Its URL.", examples=["s3://bucket/prefix"])]
    kind: Annotated[str, Meta(description="`directory` or `s3`.", extra_json_schema={"enum": ["directory", "s3"]})]
    protection: Annotated[str, Meta(description="What a bucket of this kind protects against, and what not.")]
    durability: Annotated[
        str,
        Meta(
            description="When a write without `Tidepool-Durability` is answered: on the disk, or in the bucket.",
            extra_json_schema={"enum": ["local", "remote"]},
        ),
    ]
    owner: Annotated[bool, Meta(description="This process owns the bucket's data. Until it does, nothing below `trouble` is known.")]
    unsafe_store: Annotated[
        str | None, Meta(description="What the store does not keep, when ISCC_SEARCH_SNAPSHOT_UNSAFE accepts that. Null for a good one.")
    ] = None
    trouble: Annotated[str | None, Meta(description="Why nothing is shipped, null when nothing stands in the way.")] = None
    lag_seconds: Annotated[Seconds | None, Meta(description="Age of the oldest write that is not in the bucket.")] = None
    lag_rows: Annotated[Number | None, Meta(description="Writes that are not in the bucket.")] = None
    backlog_bytes: Annotated[Bytes | None, Meta(description="Their size. Above ISCC_SEARCH_LOG_BACKLOG_BYTES writes get 503.")] = None
    sequence: Annotated[Number | None, Meta(description="The last committed request.")] = None
    shipped_sequence: Annotated[Number | None, Meta(description="The last request that is in the bucket.")] = None
    lineage: Annotated[str | None, Meta(description="The history of requests that this is. Another one after a restore to the past.")] = (
        None
    )
    epoch: Annotated[Number | None, Meta(description="Counts the processes that owned the bucket's data.")] = None
    generation: Annotated[Number | None, Meta(description="The newest manifest.")] = None
    checkpoint: Annotated[SnapshotBase | None, Meta(description="Null while everything is in the log.")] = None
    checkpoint_trouble: Annotated[
        str | None, Meta(description="Why the last checkpoint could not be made, null when it was. The log is shipped all the same.")
    ] = None
    oldest_restorable: Annotated[
        Time | None, Meta(description="Every moment from here on can be restored. Looked up when the bucket is pruned, null before.")
    ] = None
    verified: SnapshotCheck | None = None
    verified_good_at: Annotated[Time | None, Meta(description="When the last check ended that found nothing wrong.")] = None
    drill: SnapshotDrill | None = None
    drill_good_at: Annotated[Time | None, Meta(description="When the last drill ended that found nothing wrong.")] = None


class SnapshotGeneration(msgspec.Struct, frozen=True, kw_only=True):
    """One manifest: a base, and the place in the log behind which a restore goes on."""

    generation: Number
    kind: Annotated[
        str,
        Meta(
            description="`checkpoint`: a new base. `claim`: the same base under a new owner.",
            extra_json_schema={"enum": ["checkpoint", "claim"]},
        ),
    ]
    created: Time
    lineage: str
    epoch: Number
    base_generation: Annotated[Number, Meta(description="The checkpoint whose files these are, 0 when everything is in the log.")]
    base_sequence: Annotated[Number, Meta(description="The last request that the base holds.")]
    base_time: Annotated[Time | None, Meta(description="When it was committed, null when the base is empty.")]
    bytes: Annotated[Bytes, Meta(description="Size of its files, whether others share them or not.")]
    counts: Annotated[dict[str, int], Meta(description="Indexes, assets, and what each index has of them.")]
    pinned_by: Annotated[list[str], Meta(description="Names of the pins that keep it.")]
    restorable: Annotated[bool, Meta(description="Its base can be restored exactly.")]
    replayable: Annotated[bool, Meta(description="The log behind it is whole: every later moment of its lineage can be restored.")]


class SnapshotCreated(SnapshotGeneration, frozen=True, kw_only=True):
    """A checkpoint that was just made, and what it cost."""

    uploaded_bytes: Bytes
    known_bytes: Annotated[Bytes, Meta(description="Bytes of its files that the bucket had already.")]
    seconds: Annotated[dict[str, Seconds], Meta(description="Of each phase: copy, hash, upload, publish.")]


class SnapshotFile(msgspec.Struct, frozen=True):
    """A file of a base."""

    path: str
    bytes: Bytes
    pieces: Annotated[list[str], Meta(description="SHA-256 of each piece: the names of its objects.")]


class SnapshotParent(msgspec.Struct, frozen=True):
    """Where a lineage branched off another."""

    lineage: str
    sequence: Number


class SnapshotDetail(SnapshotGeneration, frozen=True, kw_only=True):
    """One manifest with everything that it says."""

    writer: Annotated[str, Meta(description="The ownership in which it was made.")]
    host: Annotated[str, Meta(description="The machine on which it was made.")]
    log_number: Annotated[Number, Meta(description="The log object behind which a restore replays.")]
    log_sequence: Annotated[Number, Meta(description="The last request in that object.")]
    engine: Annotated[dict[str, str], Meta(description="Format and versions of what wrote the base.")]
    parent: SnapshotParent | None
    files: list[SnapshotFile]
