"""What keeps the bucket up to date while the service runs: the shipper, and checkpoints when they are due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from service.boot.arrival import EXPORT, Owned
from service.boot.source import EngineSource
from service.engine.engine import Engine
from service.engine.errors import EngineError
from service.engine.requests import Answer, Request
from service.logs import event, logger
from snapshots.damaged import Noted, forget, make_folder, note, noted
from snapshots.errors import Corrupt, Fenced, Rotten, SnapshotError, Unreachable
from snapshots.manifest import Manifest
from snapshots.prefix import Prefix
from snapshots.publish import Owner, Published, publish
from snapshots.ship import Report, Shipper
from snapshots.unshipped import save_unshipped

LOG_MIN_BYTES = 64 << 20
LOG_SHARE = 2
"""A checkpoint is due when the log since the base is larger than a half of the base."""
OBJECTS_MAX = 20_000
REPLAY_MAX_S = 60.0
REPLAY_BYTES_PER_S = 5 << 20
BASE_MAX_AGE_S = 86_400.0
SHIP_PATIENCE_S = 300.0
EXPORT_PATIENCE_S = 1.0
STOP_MIN_S = 0.2
"""To see that there is nothing left to ship takes a moment."""


class Checkpoints(msgspec.Struct):
    """What was done since the process started, for the metrics."""

    done: int = 0
    failed: int = 0
    trouble: str = ""
    """Why the last one could not be made; empty when it was."""
    uploaded_bytes: int = 0
    known_bytes: int = 0
    last_seconds: dict[str, float] = {}
    write_pause_s: float = 0.0
    """The slowest commit while the last one was made: that it holds no lock of ours can be seen here."""


class Keeper:
    """Lives from the claim to the stop. `commit` is called on the write lane, the rest on any thread."""

    def __init__(
        self,
        engine: Engine,
        prefix: Prefix,
        directory: Path,
        live: Path,
        owned: Owned,
        log_interval_s: float,
        on_end: Callable[[SnapshotError], None],
        report: Report,
    ) -> None:
        self._engine = engine
        self._prefix = prefix
        self._directory = directory
        self._live = live
        self.source = EngineSource(engine)
        self._author = owned.author
        self._parent = owned.mark.parent
        self._on_end = on_end
        self._busy = threading.Lock()
        self._committing = threading.Lock()
        self._lost: SnapshotError | None = None
        """Why nothing is written any more."""
        self._newest = owned.newest
        self._making = False
        """A checkpoint is being made."""
        make_folder(directory)
        self.checkpoints = Checkpoints()
        self.uses_engine = True
        """Until `stop` has seen that nothing of this reads the engine any more."""
        self.fenced = 0
        self.shipper = Shipper(prefix, live, owned.mark, self.source, log_interval_s, self._end, report)

    @property
    def newest(self) -> Manifest:
        """The newest manifest of this owner."""
        return self._newest

    @property
    def busy(self) -> bool:
        """A checkpoint is being made, or may not be made now."""
        return self._busy.locked()

    @property
    def prefix(self) -> Prefix:
        return self._prefix

    def start(self) -> None:
        self._engine.on_commit(self.shipper.wake)
        self.shipper.start()

    def stop(self, timeout_s: float) -> str:
        """Ships the rest. What is left when that did not end well, in words; empty when the bucket has everything."""
        deadline = time.monotonic() + timeout_s
        complete = self.shipper.stop(max(timeout_s, STOP_MIN_S))
        self.uses_engine = not self.source.close(deadline - time.monotonic() + EXPORT_PATIENCE_S)
        if not complete:
            return f"the bucket does not have the last writes ({self.shipper.trouble or 'it is slow'}): the next start ships them"
        if time.monotonic() < deadline:
            try:
                self._update_hint()
            except SnapshotError as error:
                logger.warning("the hint was not updated, which costs the next start a moment: %s", error)
        return ""

    def _update_hint(self) -> None:
        """Unless it is a new owner's: an owner that lost the prefix leaves everything as it is."""
        hint = self._prefix.hint()
        if hint is None or hint.generation <= self._newest.generation:
            self._prefix.update_hint(self._newest, self.shipper.mark.log.number, time.time_ns() // 1000)

    def commit(self, requests: Sequence[Request]) -> list[Answer | EngineError]:
        """Raises before anything is written: Fenced when somebody else owns the prefix, Unreachable when this process stood still and
        nobody knows."""
        with self._committing:
            if self._lost is not None:
                raise self._lost
            self.shipper.confirm()
            began = time.perf_counter()
            try:
                return self._engine.commit(requests)
            finally:
                if self._making:
                    self.checkpoints.write_pause_s = max(self.checkpoints.write_pause_s, time.perf_counter() - began)

    def lag_s(self) -> float:
        """Age of the oldest write that is not in the bucket."""
        first = self._engine.log_first
        return max(0.0, time.time() - first.time_us / 1e6) if first is not None else 0.0

    def due(self) -> str:
        """Why a checkpoint is due; empty when it is not."""
        newest, mark = self._newest, self.shipper.mark
        found = noted(self._directory)
        if not found.blobs.isdisjoint(newest.pieces):
            return "the newest checkpoint has blobs that are missing in the bucket or wrong: they are written again"
        if any(each.is_behind(newest) for each in found.breaks):
            return "the log behind the newest checkpoint cannot be read: another one is needed to restore what came since"
        rows = self._engine.sequence - newest.base_sequence
        if rows == 0:
            return ""
        log_bytes = mark.log.bytes - newest.log.bytes
        objects = mark.log.number - newest.log.number
        if log_bytes > max(LOG_MIN_BYTES, newest.bytes / LOG_SHARE):
            return f"{log_bytes} bytes of log since the base"
        if log_bytes / REPLAY_BYTES_PER_S > REPLAY_MAX_S or objects > OBJECTS_MAX:
            return f"replaying {objects} log objects would take too long"
        age_s = time.time() - newest.base_time_us / 1e6 if newest.base_time_us else time.time() - newest.created_us / 1e6
        return f"the base is {age_s / 3600:.0f} hours old" if age_s > BASE_MAX_AGE_S else ""

    @property
    def damaged(self) -> frozenset[str]:
        """Blobs that somebody found missing or wrong, and that no checkpoint has written again."""
        return noted(self._directory).blobs

    def mend(self, found: Noted) -> None:
        """This is wrong in the bucket: the next checkpoint, due at once if the newest one needs it, puts right what it can. Outlives us."""
        note(self._directory, found)

    def checkpoint_if_due(self) -> None:
        """For the schedule. A bucket that cannot be reached is tried again at the next turn."""
        reason = self.due()
        if reason:
            event(logging.INFO, "checkpoint is due", reason=reason)
            self.checkpoint()

    def checkpoint(self) -> Published:
        """Makes one now. Raises what snapshots raise; being fenced also ends the service."""
        with self._busy:
            mark, found = self.shipper.mark, noted(self._directory)
            owner = Owner(mark.lineage, mark.epoch, self._author.writer, self._author.host, self._parent)
            self.checkpoints.write_pause_s, self._making = 0.0, True
            try:
                published = publish(
                    self._prefix,
                    self.source,
                    self._directory / EXPORT,
                    self._newest,
                    owner,
                    lambda: self.shipper.mark.log,
                    self.wait_shipped,
                    found.blobs,
                )
            except Fenced as error:
                self.checkpoints.failed += 1
                self._end(error)
                raise
            except BaseException as error:
                self.checkpoints.failed += 1
                self.checkpoints.trouble = str(error)
                if isinstance(error, Rotten):
                    raise self._doubt(error) from error
                raise
            finally:
                self._making = False
            self._newest = published.manifest
            self.checkpoints.done += 1
            self.checkpoints.trouble = ""
            self.checkpoints.uploaded_bytes += published.uploaded_bytes
            self.checkpoints.known_bytes += published.known_bytes
            self.checkpoints.last_seconds = published.seconds
            event(
                logging.INFO,
                "checkpoint",
                generation=published.manifest.generation,
                sequence=published.manifest.base_sequence,
                bytes=published.manifest.bytes,
                uploaded=published.uploaded_bytes,
                seconds=published.seconds,
            )
            forget(self._directory, found.mended_by(published.manifest))
            return published

    def _doubt(self, error: Rotten) -> Corrupt:
        """The file is made again in the background. What the operator is told names it where it stands."""
        file = self._live / error.path.relative_to(self._directory / EXPORT)
        self.source.doubt(file)
        self.checkpoints.trouble = (
            f"{file} rotted on this disk ({error}): a running service makes it again from LMDB at once, and then the next checkpoint "
            "goes through; if it happens again the disk is failing"
        )
        return Corrupt(self.checkpoints.trouble)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """No checkpoint is made meanwhile."""
        with self._busy:
            yield

    def wait_shipped(self, sequence: int) -> None:
        """Blocks until the bucket has all rows up to there. Raises Unreachable, or what ended the shipper."""
        if not self.shipper.wait_shipped(sequence, SHIP_PATIENCE_S):
            raise Unreachable(f"the log was not shipped through {sequence} within {SHIP_PATIENCE_S:.0f} s: {self.shipper.trouble}")

    def _end(self, error: SnapshotError) -> None:
        """The prefix is lost: what could not be shipped is kept in a file before the process ends, with the commit that runs now."""
        self.fenced += isinstance(error, Fenced)
        self._lost = error
        try:
            with self._committing:
                saved = save_unshipped(self._directory, self.shipper.mark, self.source)
            if saved is not None:
                logger.critical("writes that never reached the bucket are kept in %s: `tidepool snapshot show %s`", saved, saved)
        finally:
            self._on_end(error)
