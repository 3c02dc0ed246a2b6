"""From a data directory and a bucket to an engine that has everything and owns the prefix.

Looks at both, asks the start-up table (`snapshots.start`), does what it says, claims. Death may cut every step short: the next start begins
it again, and `snapshots/DESIGN.md` says why that is safe.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from service import __version__
from service.boot.source import EngineSource
from service.engine.engine import Engine
from service.engine.errors import Damaged
from service.engine.export import unfit
from service.engine.files import LIVE, DirectoryLock
from service.engine.opening import inspect, make_empty, mark_whole
from service.engine.options import Options
from service.logs import event, logger
from snapshots.catalog import piece_sizes
from snapshots.claim import Author, claim, fence, fence_lineage, manifest_or_fenced
from snapshots.damaged import forget, noted
from snapshots.errors import Refused, Rotten, Unreachable
from snapshots.failpoints import reach
from snapshots.fetch import Progress, fetch
from snapshots.files import sync_directory
from snapshots.log import START, Place
from snapshots.manifest import EMPTY_LOG, Manifest, Parent
from snapshots.mark import FORMAT, Mark, read_mark, write_mark
from snapshots.prefix import Prefix
from snapshots.publish import Owner, publish
from snapshots.start import Action, Allowed, Decision, Disk, Remote, decide
from snapshots.unshipped import save_unshipped
from snapshots.verify import look
from snapshots.walk import Standing, compare

RESTORE = "restore"
EXPORT = "snapshot"

Report = Callable[[str, dict[str, object]], None]
Phase = Callable[[str, str], None]
"""Told the name of the boot state and why."""


class Arrived(msgspec.Struct, frozen=True):
    """`owned` is None when the bucket could not be reached: this disk may be read until it is claimed."""

    engine: Engine
    owned: Owned | None


class Fetched(msgspec.Struct, frozen=True):
    """What a restore took, until the data was in its place."""

    bytes: int
    seconds: float


class Owned(msgspec.Struct, frozen=True):
    """What a claim gave: the end of the log, the newest manifest."""

    mark: Mark
    newest: Manifest
    author: Author


class Arrival:
    """One start. Runs on the boot thread."""

    def __init__(
        self, directory: Path, lock: DirectoryLock, prefix: Prefix, opts: Options, allowed: Allowed, phase: Phase, report: Report
    ) -> None:
        self._directory = directory
        self._live = directory / LIVE
        self._lock = lock
        self.prefix = prefix
        self._options = opts
        self._allowed = allowed
        self._phase = phase
        self._report = report
        self._engine: Engine | None = None
        self.progress = Progress()
        self.restored: Fetched | None = None

    def run(self) -> Arrived:
        """Raises what snapshots or the engine raise; then nothing is open."""
        try:
            remote = self._look()
            disk = self._open_disk()
            decision = decide(disk, remote, self._allowed, self._standing)
            event(logging.INFO, "start", action=decision.action.value, reason=decision.reason, bucket=self.prefix.bucket.url)
            owned = self._act(decision, disk, None if isinstance(remote, Unreachable) else remote)
            return Arrived(self._opened(), owned)
        except BaseException:
            if self._engine is not None:
                self._engine.close()
            raise

    def claim_later(self, engine: Engine) -> Owned:
        """For an engine that was opened for reading. Unreachable while the bucket does not answer, Refused when only a new start helps."""
        self._engine = engine
        remote = self._look()
        if isinstance(remote, Unreachable):
            raise remote
        decision = decide(Disk("whole", read_mark(self._live)), remote, self._allowed, self._standing)
        if decision.action not in (Action.USE, Action.PUBLISH):
            raise Refused(f"the bucket answers again, and this disk cannot go on as it is: {decision.reason}; start again")
        owned = self._act(decision, Disk("whole", read_mark(self._live)), remote)
        if owned is None:
            raise AssertionError("using and publishing end in a claim")
        return owned

    def _look(self) -> Remote | Unreachable:
        try:
            newest = self.prefix.newest()
            return Remote(self.prefix.bucket.url, self.prefix.format() is not None, newest)
        except Unreachable as error:
            return error

    def _open_disk(self) -> Disk:
        shutil.rmtree(self._directory / EXPORT, ignore_errors=True)
        found = inspect(self._directory)
        if found.data != "whole":
            return Disk(found.data, read_mark(self._live), found.reason)
        try:
            self._open()
        except Damaged as error:
            return Disk("damaged", read_mark(self._live), str(error))
        mark, sequence = read_mark(self._live), self._opened().sequence
        if mark is not None and mark.log.sequence > sequence:
            return Disk(
                "damaged", mark, f"{self._live} ends at request {sequence}, but {mark.log.sequence} were shipped from here: an old copy"
            )
        return Disk("whole", mark, sequence=sequence)

    def _open(self) -> Engine:
        self._phase("opening", "the data directory is being opened")
        self._engine = Engine.open(self._directory, self._options, on_event=self._report, lock=self._lock)
        return self._engine

    def _opened(self) -> Engine:
        return self._engine or self._open()

    def _source(self) -> EngineSource:
        return EngineSource(self._opened(), self.progress.add)

    def _standing(self, mark: Mark, newest: Manifest) -> Standing:
        return compare(self.prefix, newest, mark, self._source())

    def _act(self, decision: Decision, disk: Disk, remote: Remote | None) -> Owned | None:
        newest = remote.newest if remote is not None else None
        match decision.action:
            case Action.READ:
                self._catch_up()
                return None
            case Action.CREATE:
                self._create()
                return self._publish(read_mark(self._live), None)
            case Action.PUBLISH | Action.ADOPT:
                return self._publish(disk.mark, newest)
            case Action.RESTORE if newest is not None:
                self._set_aside(decision, disk)
                self._restore(newest)
        if newest is None:
            raise AssertionError("the table restores and uses only what is there")
        return self._claim(newest)

    def _create(self) -> None:
        """An empty store with a mark, made under another name: it appears whole."""
        folder = self._fresh_folder()
        make_empty(folder)
        write_mark(folder, Mark(FORMAT, secrets.token_hex(16), 0, "", EMPTY_LOG))
        self._switch(folder)

    def _restore(self, newest: Manifest) -> None:
        reason = unfit(newest.engine)
        if reason is not None:
            raise Refused(f"generation {newest.generation} of {self.prefix.bucket.url} cannot be restored: {reason}")
        self._phase("restoring", f"generation {newest.generation} of {self.prefix.bucket.url} is being fetched")
        started = time.monotonic()
        if newest.files:
            folder = self._directory / RESTORE
            fetch(self.prefix.bucket, newest, folder, self.progress)
        else:
            folder = self._fresh_folder()
            make_empty(folder)
        write_mark(folder, Mark(FORMAT, newest.lineage, newest.epoch, "", newest.log, newest.parent))
        self._switch(folder)
        mark_whole(self._directory)
        self.restored = Fetched(newest.bytes, round(time.monotonic() - started, 3))
        event(logging.INFO, "restored", generation=newest.generation, bytes=newest.bytes, sequence=newest.base_sequence)

    def _fresh_folder(self) -> Path:
        folder = self._directory / RESTORE
        shutil.rmtree(folder, ignore_errors=True)
        return folder

    def _switch(self, folder: Path) -> None:
        """From here on the new data is what this disk has."""
        sync_directory(folder)
        reach("restore.ready")
        if self._live.is_dir():
            self._live.rmdir()  # empty: `inspect` says there is no data
        folder.rename(self._live)
        sync_directory(self._directory)
        reach("restore.switched")

    def _set_aside(self, decision: Decision, disk: Disk) -> None:
        """What is here is moved away, never deleted."""
        if self._engine is not None:
            if decision.keeps_unshipped and disk.mark is not None:
                saved = save_unshipped(self._directory, disk.mark, self._source())
                if saved is not None:
                    logger.critical("writes that never reached the bucket are kept in %s: `tidepool snapshot show %s`", saved, saved)
            self._engine.close()
            self._engine = None
        if decision.aside:
            place = self._directory / f"{LIVE}.{decision.aside}-{stamp()}"
            self._live.rename(place)
            sync_directory(self._directory)
            logger.warning("the data that was here is set aside as %s: %s", place, decision.reason)
        elif self.prefix.bucket.url == (self._directory / "bucket").as_uri():
            logger.warning(
                "%s has no data and is restored from %s; to start empty instead, stop and remove both",
                self._live,
                self._directory / "bucket",
            )

    def _publish(self, mark: Mark | None, newest: Manifest | None) -> Owned:
        """Begins a lineage with what is here. With `newest`, the lineage that was there is ended first."""
        engine = self._opened()
        self._catch_up()
        self._phase("catching-up", f"what is here is published to {self.prefix.bucket.url}")
        self.prefix.initialise(f"tidepool {__version__}", now_us())
        author = new_author()
        end = Place(0, START, engine.sequence)
        mark = self._new_lineage(mark, end, author)
        if newest is not None:
            fence_lineage(self.prefix, newest, author, now_us())
        epoch = newest.epoch + 1 if newest is not None else 1
        owner = Owner(mark.lineage, epoch, author.writer, author.host, mark.parent)
        if engine.sequence == 0:
            first = manifest_or_fenced(self.prefix, _without_base(owner, newest, engine.facts()))
        else:
            first = self._first_checkpoint(newest, owner, end)
        reach("init.manifest")
        mark = fence(self.prefix, self._live, msgspec.structs.replace(mark, epoch=epoch), self._source(), now_us())
        return Owned(mark, first, author)

    def _first_checkpoint(self, newest: Manifest | None, owner: Owner, end: Place) -> Manifest:
        """A sealed file that rotted here is made again at once: a start that ended would find it again at each new try. Blobs of the
        lineage that is left are looked for: it may have been left because it lost some."""
        found = noted(self._directory)
        lost = found.blobs
        if newest is not None:
            lost |= look(self.prefix.bucket, piece_sizes([newest])).keys()
        mended: set[str] = set()
        while True:
            try:
                made = publish(
                    self.prefix, self._source(), self._directory / EXPORT, newest, owner, lambda: end, lambda _: None, lost
                ).manifest
                forget(self._directory, found.mended_by(made))
                return made
            except Rotten as error:
                if error.path.name in mended:
                    raise
                logger.warning("%s: it is made again", error)
                mended.add(error.path.name)
                self._opened().doubt(error.path.name)
                self._opened().upkeep_step()

    def _new_lineage(self, mark: Mark | None, end: Place, author: Author) -> Mark:
        """A copy that was never published keeps the lineage that it got when it was made."""
        if mark is not None and mark.epoch == 0:
            mark = msgspec.structs.replace(mark, writer=author.writer, log=end)
        else:
            parent = Parent(mark.lineage, end.sequence) if mark is not None else None
            mark = Mark(FORMAT, secrets.token_hex(16), 0, author.writer, end, parent)
        write_mark(self._live, mark)
        self._opened().release_log(end.sequence)
        return mark

    def _claim(self, newest: Manifest) -> Owned:
        engine = self._opened()
        mark = read_mark(self._live)
        if mark is None:
            raise AssertionError("the table claims only a disk that has a mark")
        engine.release_log(min(mark.log.sequence, engine.sequence))
        self._catch_up()
        if mark.log.sequence > engine.sequence:
            raise Damaged(
                f"{self._live} ends at request {engine.sequence}, but its mark says {mark.log.sequence} were shipped: an old copy?"
            )
        self._phase("catching-up", "what the log in the bucket has more is replayed")
        self.progress.begin("replaying", 0)
        author = new_author()
        mark, claimed = claim(self.prefix, self._live, mark, newest, self._source(), author, now_us())
        return Owned(mark, claimed, author)

    def _catch_up(self) -> None:
        self._phase("catching-up", "files that follow from the data are checked and rebuilt")
        self._opened().catch_up()


def _without_base(owner: Owner, newest: Manifest | None, facts: dict[str, str]) -> Manifest:
    """The first manifest of an empty index: everything will be in the log."""
    return Manifest(
        kind="claim",
        lineage=owner.lineage,
        epoch=owner.epoch,
        generation=newest.generation + 1 if newest is not None else 1,
        writer=owner.writer,
        host=owner.host,
        created_us=now_us(),
        base_generation=0,
        base_sequence=0,
        base_time_us=0,
        log=EMPTY_LOG,
        engine=facts,
        counts={},
        files=[],
        parent=owner.parent,
    )


def new_author() -> Author:
    return Author(secrets.token_hex(16), socket.gethostname())


def now_us() -> int:
    return time.time_ns() // 1000


def stamp() -> str:
    """The time in a file name."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
