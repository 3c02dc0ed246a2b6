"""Taking ownership of a prefix: a manifest of the next epoch, then a fence in the log. Both names are created, never replaced."""

from __future__ import annotations

from pathlib import Path

import msgspec

from snapshots.errors import Corrupt, Fenced, Foreign, Missing
from snapshots.failpoints import reach
from snapshots.log import START, Header, Place, freeze
from snapshots.manifest import Manifest
from snapshots.mark import Mark, write_mark
from snapshots.paths import log_folder, log_key, parse_log_key
from snapshots.prefix import Prefix
from snapshots.walk import Journal, catch_up, goes_on


class Author(msgspec.Struct, frozen=True):
    """Who writes: a random id of this ownership, and the machine, for people."""

    writer: str
    host: str


def claim(prefix: Prefix, live: Path, mark: Mark, newest: Manifest, journal: Journal, author: Author, now_us: int) -> tuple[Mark, Manifest]:
    """Makes `author` the owner and this disk as new as the log. Raises Fenced, Foreign, Diverged, or what the bucket raises.

    The log is replayed once before the claim: what cannot be replayed takes the prefix from nobody.
    """
    try:
        mark, _ = _to_the_end(prefix, mark, journal)
    except Corrupt as error:
        raise Corrupt(
            f"{error}. Bring back what is missing if you can; to go on without it, copy what is left with `tidepool snapshot restore "
            "--target DIRECTORY`, and start once from there with `tidepool serve --adopt-local`"
        ) from error
    reach("claim.replayed")
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
        reach("claim.create")
        created = prefix.create_manifest(wanted)
        newest = prefix.newest() or newest
        if created is not None and newest.generation > created.generation:
            # Also when the number was free only because a checkpoint of that number was pruned while this process slept.
            raise fenced_by(prefix, newest.generation)
        if created is not None:
            return created
        if newest.lineage != lineage:
            raise Foreign(f"{prefix.bucket.url} was taken over by lineage {newest.lineage} while this disk of lineage {lineage} started")


def fence(prefix: Prefix, live: Path, mark: Mark, journal: Journal, now_us: int) -> Mark:
    """Replays to the end of the log and creates a fence there. The mark knows it."""
    while True:
        mark, epoch = _to_the_end(prefix, mark, journal)
        if epoch > mark.epoch:
            raise Fenced(f"a writer of epoch {epoch} took over {prefix.bucket.url} while epoch {mark.epoch} was claimed")
        reach("fence.create")
        place = create_fence(prefix, mark.lineage, mark.epoch, mark.writer, mark.log, now_us)
        if place is not None:
            break
    reach("fence.created")
    _require_last(prefix, mark.lineage, place)
    mark = msgspec.structs.replace(mark, log=place)
    write_mark(live, mark)
    journal.release_log(place.sequence)
    return mark


def _to_the_end(prefix: Prefix, mark: Mark, journal: Journal) -> tuple[Mark, int]:
    """Replays what the log has behind the mark. Returns the mark at its end, and the highest epoch on the way.

    Raises Corrupt at a hole in the log, and when this disk has rows behind that end, but not the next one: what it ships then could
    never be replayed.
    """
    highest = 0
    while True:
        mark, epoch = catch_up(prefix, mark, journal)
        highest = max(highest, epoch)
        if not goes_on(prefix, mark):  # a fence in a hole would hide the rest
            break
    end = mark.log.sequence
    rows = journal.log_after(end, 1)
    if journal.sequence > end and (not rows or rows[0].sequence != end + 1):
        raise Corrupt(
            f"the log of {prefix.bucket.url} ends at request {end}, and this disk, which ends at {journal.sequence}, has not kept request "
            f"{end + 1}: the end of the log is lost"
        )
    return mark, highest


def _require_last(prefix: Prefix, lineage: str, place: Place) -> None:
    """Raises Fenced when the log goes on behind a new fence. Its name may have been free because it was pruned while this process slept."""
    try:
        prefix.require_end(lineage, Place(place.number - 1, "", 0))
    except Corrupt as error:
        raise Fenced(f"another writer took over {prefix.bucket.url}: its log goes on behind the new fence {place.number}") from error


def create_fence(prefix: Prefix, lineage: str, epoch: int, writer: str, end: Place, now_us: int) -> Place | None:
    """An object without rows behind `end`; None when the name is taken."""
    header = Header(lineage, epoch, writer, end.number + 1, end.digest, end.sequence + 1, end.sequence, 0, now_us, end.bytes)
    body, digest = freeze(header, [])
    created = prefix.bucket.create(log_key(lineage, header.number), body)
    return Place(header.number, digest, end.sequence, end.bytes + len(body)) if created else None


def fence_lineage(prefix: Prefix, newest: Manifest, author: Author, now_us: int) -> None:
    """Ends a lineage that is being left: a fence behind its last log object that is known, so that its writer cannot go on."""
    seen, end = prefix.hinted(newest.lineage), newest.log
    while True:
        end = _tail(prefix, newest.lineage, end)
        if end.number < seen:  # its last objects are lost: the writer wants the name behind them
            end = Place(seen, START, end.sequence, end.bytes)
        if create_fence(prefix, newest.lineage, newest.epoch + 1, author.writer, end, now_us) is not None:
            return


def _tail(prefix: Prefix, lineage: str, place: Place) -> Place:
    """The end of a log that is being left. Where it is broken, as far as the store lists it: its writer may go on behind the break."""
    whole = True
    try:
        for found in prefix.follow(lineage, place):
            place = found.place
    except Corrupt:
        whole = False
    listed = [parse_log_key(entry.key) for entry in prefix.bucket.list(log_folder(lineage), after=log_key(lineage, place.number))]
    numbers = [found[1] for found in listed if found is not None]
    if not numbers or (whole and numbers[0] == place.number + 1):
        return place
    return Place(numbers[-1], START, place.sequence, place.bytes)


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
