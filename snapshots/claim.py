"""Taking ownership of a prefix: a manifest of the next epoch, then a fence in the log. Both names are created, never replaced."""

from __future__ import annotations

from pathlib import Path

import msgspec

from snapshots.errors import Corrupt, Fenced, Foreign, Missing
from snapshots.failpoints import reach
from snapshots.log import Header, Place, freeze
from snapshots.manifest import Manifest
from snapshots.mark import Mark, write_mark
from snapshots.paths import log_key
from snapshots.prefix import Prefix
from snapshots.walk import Journal, catch_up


class Author(msgspec.Struct, frozen=True):
    """Who writes: a random id of this ownership, and the machine, for people."""

    writer: str
    host: str


def claim(prefix: Prefix, live: Path, mark: Mark, newest: Manifest, journal: Journal, author: Author, now_us: int) -> tuple[Mark, Manifest]:
    """Makes `author` the owner and this disk as new as the log. Raises Fenced, Foreign, Diverged, or what the bucket raises."""
    mark = msgspec.structs.replace(mark, writer=author.writer)
    write_mark(live, mark)
    claimed = _create_claim(prefix, mark.lineage, newest, author, now_us)
    reach("claim.manifest")
    mark = fence(prefix, live, msgspec.structs.replace(mark, epoch=claimed.epoch), journal, now_us)
    reach("claim.fence")
    prefix.update_hint(claimed, mark.log.number, now_us)
    return mark, claimed


def _create_claim(prefix: Prefix, lineage: str, newest: Manifest, author: Author, now_us: int) -> Manifest:
    while True:
        wanted = msgspec.structs.replace(
            newest,
            kind="claim",
            epoch=newest.epoch + 1,
            generation=newest.generation + 1,
            writer=author.writer,
            host=author.host,
            created_us=now_us,
        )
        created = prefix.create_manifest(wanted)
        if created is not None:
            return created
        newest = prefix.manifest(wanted.generation)
        if newest.lineage != lineage:
            raise Foreign(f"{prefix.bucket.url} was taken over by lineage {newest.lineage} while this disk of lineage {lineage} started")


def fence(prefix: Prefix, live: Path, mark: Mark, journal: Journal, now_us: int) -> Mark:
    """Replays to the end of the log and creates a fence there. The mark knows it."""
    while True:
        mark, epoch = catch_up(prefix, mark, journal)
        if epoch > mark.epoch:
            raise Fenced(f"a writer of epoch {epoch} took over {prefix.bucket.url} while epoch {mark.epoch} was claimed")
        if _goes_on(prefix, mark):
            continue
        place = create_fence(prefix, mark.lineage, mark.epoch, mark.writer, mark.log, now_us)
        if place is not None:
            mark = msgspec.structs.replace(mark, log=place)
            write_mark(live, mark)
            journal.release_log(place.sequence)
            return mark


def _goes_on(prefix: Prefix, mark: Mark) -> bool:
    """True when the old owner's last objects appeared meanwhile. Raises Corrupt at a hole in the log: a fence there would hide the rest."""
    try:
        prefix.require_end(mark.lineage, mark.log)
    except Corrupt:
        if prefix.log_digest(mark.lineage, mark.log.number + 1) is None:
            raise
        return True
    return False


def create_fence(prefix: Prefix, lineage: str, epoch: int, writer: str, end: Place, now_us: int) -> Place | None:
    """An object without rows behind `end`; None when the name is taken."""
    header = Header(lineage, epoch, writer, end.number + 1, end.digest, end.sequence + 1, end.sequence, 0, now_us, end.bytes)
    body, digest = freeze(header, [])
    created = prefix.bucket.create(log_key(lineage, header.number), body)
    return Place(header.number, digest, end.sequence, end.bytes + len(body)) if created else None


def fence_lineage(prefix: Prefix, newest: Manifest, author: Author, now_us: int) -> None:
    """Ends a lineage that is being left: a fence behind its last log object, so that its writer cannot go on."""
    end = newest.log
    while True:
        for found in prefix.follow(newest.lineage, end):
            end = found.place
        if create_fence(prefix, newest.lineage, newest.epoch + 1, author.writer, end, now_us) is not None:
            return


def manifest_or_fenced(prefix: Prefix, wanted: Manifest) -> Manifest:
    """Creates the manifest of an owner. Raises Fenced when its number is taken."""
    created = prefix.create_manifest(wanted)
    if created is not None:
        return created
    raise fenced_by(prefix, wanted.generation)


def fenced_by(prefix: Prefix, generation: int) -> Fenced:
    """The error for a generation that somebody else has."""
    try:
        other = prefix.manifest(generation)
    except Missing:
        return Fenced(f"generation {generation} of {prefix.bucket.url} is taken")
    return Fenced(
        f"{prefix.bucket.url} has a new owner: writer {other.writer} on {other.host} claimed epoch {other.epoch} (generation {generation})"
    )
