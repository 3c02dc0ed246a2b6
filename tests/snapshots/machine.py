"""A machine of the tests: a disk, an engine in memory, a start as the service does it, a shipper. `kill` leaves the disk as it is."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from snapshots import failpoints
from snapshots.bucket import Bucket
from snapshots.claim import Author, claim, fence, manifest_or_fenced
from snapshots.clock import Clock
from snapshots.directory import DirectoryBucket
from snapshots.errors import SnapshotError
from snapshots.fetch import Progress, fetch
from snapshots.log import Row
from snapshots.manifest import EMPTY_LOG, Manifest
from snapshots.mark import FORMAT, Mark, read_mark, write_mark
from snapshots.paths import manifest_key
from snapshots.prefix import Prefix
from snapshots.publish import Owner, Published, publish
from snapshots.ship import Shipper
from snapshots.start import Action, Allowed, Decision, Disk, Remote, decide
from snapshots.unshipped import save_unshipped
from snapshots.walk import compare
from tests.snapshots.fakes import MemoryJournal, PlannedBucket, die, opened

PATIENCE_S = 20.0


class Machine:
    """`name` is also that of its writers. A test has several on one bucket."""

    def __init__(self, root: Path, name: str, inner: Bucket | None = None) -> None:
        self.directory = root / name
        self.live = self.directory / "live"
        self.bucket = PlannedBucket(inner or bucket_in(root))
        self.prefix = Prefix(self.bucket)
        self.name = name
        self.journal: MemoryJournal | None = None
        self.newest: Manifest | None = None
        self.mark: Mark | None = None
        self.decision: Decision | None = None
        self.shipper: Shipper | None = None
        self.ended: list[SnapshotError] = []
        self.told: list[tuple[str, dict[str, object]]] = []
        self.directory.mkdir(exist_ok=True)

    @property
    def engine(self) -> MemoryJournal:
        assert self.journal is not None
        return self.journal

    @property
    def ships(self) -> Shipper:
        assert self.shipper is not None
        return self.shipper

    def start(self, clock: Clock | None = None, interval_s: float = 0.0) -> None:
        """Arrives, claims, begins to ship."""
        self.claim()
        self.ship(clock, interval_s)

    def claim(self) -> None:
        """Everything of a start but the shipper."""
        self.ended.clear()
        newest = self.prefix.newest()
        if newest is None:
            self._begin()
            return
        mark = read_mark(self.live) if self.journal is not None else None
        disk = Disk("none") if self.journal is None else Disk("whole", mark)
        allowed = Allowed(create=True, serve_unreachable=False)
        remote = Remote(self.bucket.url, initialised=True, newest=newest)
        self.decision = decide(disk, remote, allowed, lambda mark, newest: compare(self.prefix, newest, mark, self.engine))
        if self.decision.action == Action.RESTORE:
            if self.decision.keeps_unshipped and mark is not None:
                save_unshipped(self.directory, mark, self.engine)
            self._restore(newest)
        mark = read_mark(self.live)
        assert mark is not None
        self.mark, self.newest = claim(self.prefix, self.live, mark, newest, self.engine, self._author(), 1)

    def ship(self, clock: Clock | None = None, interval_s: float = 0.0) -> None:
        assert self.mark is not None
        self.shipper = Shipper(self.prefix, self.live, self.mark, self.engine, interval_s, self.ended.append, self._hear, clock)
        self.engine.on_commit = self.shipper.wake
        self.shipper.start()

    def write(self, *bodies: bytes) -> int:
        """Confirmed, then committed, as the write lane does it."""
        self.ships.confirm()
        return self.engine.write(*bodies)

    def shipped(self) -> bool:
        """Waits until all rows are in the bucket. Raises what ended the shipper."""
        return self.ships.wait_shipped(self.engine.sequence, PATIENCE_S)

    def checkpoint(self) -> Published:
        mark = self.ships.mark
        owner = Owner(mark.lineage, mark.epoch, mark.writer, self.name, mark.parent)
        published = publish(
            self.prefix, self.engine, self.directory / "snapshot", self.newest, owner, lambda: self.ships.mark.log, self._wait_shipped
        )
        self.newest = published.manifest
        return published

    def stop(self) -> bool:
        """A clean stop."""
        complete = self.ships.stop(PATIENCE_S)
        self.kill()
        return complete

    def kill(self, *, trimmed: bool = True) -> None:
        """The process is gone; its thread must have ended or do no harm any more."""
        self.shipper = None
        if self.journal is not None:
            self.journal.restart(trimmed=trimmed)

    def die_at(self, place: str, *bodies: bytes) -> None:
        """Writes, and is killed when the shipper comes to the failpoint."""
        dead = threading.Event()

        def kill() -> None:
            dead.set()
            die()

        failpoints.arm(place, kill)
        self.write(*bodies)
        assert dead.wait(PATIENCE_S)
        failpoints.disarm()
        self.kill()

    def crash(self) -> None:
        """Killed now: what is under way at the bucket may still happen there, nothing more on this disk."""
        self.bucket.gate = _end
        if self.shipper is not None:
            self.shipper.stop(PATIENCE_S)
        self.bucket = PlannedBucket(self.bucket.inner)
        self.prefix = Prefix(self.bucket)
        self.kill()

    def wipe(self) -> None:
        """The disk is lost."""
        shutil.rmtree(self.live, ignore_errors=True)
        self.journal = self.mark = None

    def copy_to(self, other: Machine) -> None:
        """The other machine gets a copy of this disk."""
        shutil.copytree(self.live, other.live)
        other.journal = self.engine.copy()

    def _wait_shipped(self, sequence: int) -> None:
        assert self.ships.wait_shipped(sequence, PATIENCE_S)

    def _begin(self) -> None:
        """The first start of a prefix."""
        author = self._author()
        self.journal = MemoryJournal()
        self.live.mkdir(exist_ok=True)
        mark = Mark(FORMAT, secrets.token_hex(16), 0, author.writer, EMPTY_LOG)
        write_mark(self.live, mark)
        self.prefix.initialise("tests", 1)
        self.newest = manifest_or_fenced(self.prefix, first_manifest(mark.lineage, author))
        mark = Mark(FORMAT, mark.lineage, 1, author.writer, EMPTY_LOG)
        self.mark = fence(self.prefix, self.live, mark, self.journal, 1)

    def _restore(self, newest: Manifest) -> None:
        self.wipe()
        folder = self.directory / "restore"
        shutil.rmtree(folder, ignore_errors=True)
        if newest.files:
            fetch(self.bucket, newest, folder, Progress())
            journal = opened(folder)
        else:
            folder.mkdir()
            journal = MemoryJournal()
        write_mark(folder, Mark(FORMAT, newest.lineage, newest.epoch, "", newest.log, newest.parent))
        folder.rename(self.live)
        self.journal = journal

    def _hear(self, event: str, members: dict[str, object]) -> None:
        self.told.append((event, members))

    def _author(self) -> Author:
        return Author(f"{self.name}-{secrets.token_hex(4)}", self.name)


@contextmanager
def in_memory() -> Iterator[Path]:
    """A directory where syncing costs nothing, if there is one: these tests start and stop hundreds of times."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None, ignore_cleanup_errors=True) as name:
        yield Path(name)


def fresh(root: Path) -> Path:
    """A new folder for machines and their bucket."""
    folder = root / secrets.token_hex(4)
    folder.mkdir()
    return folder


def bucket_in(root: Path) -> DirectoryBucket:
    return DirectoryBucket(root / "bucket")


def first_manifest(lineage: str, author: Author) -> Manifest:
    return Manifest(
        kind="claim",
        lineage=lineage,
        epoch=1,
        generation=1,
        writer=author.writer,
        host=author.host,
        created_us=1,
        base_generation=0,
        base_sequence=0,
        base_time_us=0,
        log=EMPTY_LOG,
        engine={},
        counts={},
        files=[],
    )


def the_log(root: Path) -> list[Row]:
    """The rows of the newest lineage, as an empty machine gets them: base, then log. Raises Corrupt."""
    prefix = Prefix(bucket_in(root))
    newest = prefix.newest()
    if newest is None:
        return []
    rows: list[Row] = []
    if newest.files:
        body = b"".join(prefix.bucket.get(f"v1/blobs/{digest[:2]}/{digest}") for file in newest.files for digest in file.pieces)
        scratch = root / "scratch"
        scratch.mkdir(exist_ok=True)
        (scratch / "rows.bin").write_bytes(body)
        rows = opened(scratch).rows
    place = newest.log
    for found in prefix.follow(newest.lineage, place):
        rows.extend(row for row in found.rows if row.sequence > len(rows))
        place = found.place
    prefix.require_end(newest.lineage, place)
    return rows


def prune(root: Path, *, log: bool = True) -> None:
    """As a prune would: all checkpoints but the newest, and with `log` the row objects up to its place. Claims and fences stay."""
    prefix = Prefix(bucket_in(root))
    newest = prefix.newest()
    if newest is None:
        return
    for generation in prefix.generations():
        manifest = prefix.manifest(generation)
        if manifest.kind == "checkpoint" and generation not in (newest.generation, newest.base_generation):
            prefix.bucket.delete(manifest_key(generation))
    for entry in list(prefix.bucket.list(f"v1/log/{newest.lineage}/")):
        found = prefix.log_object(newest.lineage, int(entry.key[-24:-4]))
        if log and found is not None and found.rows and found.header.number < newest.log.number:
            prefix.bucket.delete(entry.key)


def _end(name: str, key: str) -> None:
    die()
