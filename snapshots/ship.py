"""The shipper: the thread that puts the log into the bucket, and that knows whether this process still owns the prefix.

An object's bytes are frozen before the first attempt and tried again under the same number until the outcome is known.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import random

import msgspec

from snapshots.errors import Fenced, SnapshotError, Unreachable
from snapshots.failpoints import reach
from snapshots.log import Header, Place, freeze
from snapshots.mark import Mark, write_mark
from snapshots.paths import log_key
from snapshots.prefix import Prefix
from snapshots.walk import Journal

OBJECT_BYTES = 4 << 20
ASK_S = 8.0
"""An owner that ships nothing asks so often whether the next log name is still free."""
CERTAIN_S = 10.0
"""So long an answer of the bucket counts. A commit later than that waits for another."""
CONFIRM_S = 5.0
RETRY_S, RETRY_MAX_S = 0.5, 15.0

Report = Callable[[str, dict[str, object]], None]


class ShipFigures(msgspec.Struct):
    """What was shipped since the process started."""

    objects: int = 0
    rows: int = 0
    bytes: int = 0
    failures: int = 0
    asked: int = 0


class _Waiter(msgspec.Struct, frozen=True):
    sequence: int
    settle: Callable[[SnapshotError | None], None]


class Shipper:
    """Lives from the claim to the stop. `wake`, `confirm`, `when_shipped` may be called from any thread."""

    def __init__(
        self,
        prefix: Prefix,
        live: Path,
        mark: Mark,
        journal: Journal,
        interval_s: float,
        on_end: Callable[[SnapshotError], None],
        report: Report,
    ) -> None:
        self._prefix = prefix
        self._live = live
        self._journal = journal
        self._interval_s = interval_s
        self._on_end = on_end
        self._report = report
        self._changed = threading.Condition()
        self._mark = mark
        self._frozen: tuple[Header, bytes, str] | None = None
        self._dirty = True
        self._urgent = self._asking = self._stopping = False
        self._waiters: list[_Waiter] = []
        self._confirmed = clock()
        self._shipped_at = float("-inf")
        self._trouble: SnapshotError | None = None
        self._ended: SnapshotError | None = None
        self.figures = ShipFigures()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    @property
    def mark(self) -> Mark:
        """What is in the bucket for certain."""
        return self._mark

    @property
    def trouble(self) -> SnapshotError | None:
        """Why the last attempt failed; None when it did not."""
        return self._trouble

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There are new rows."""
        if not self._dirty:
            with self._changed:
                self._dirty = True
                self._changed.notify_all()

    def when_shipped(self, sequence: int, settle: Callable[[SnapshotError | None], None]) -> None:
        """Calls `settle` once, on any thread: with None when all rows up to `sequence` are in the bucket, or with why they are not."""
        with self._changed:
            ended, done = self._ended, self._mark.log.sequence >= sequence
            if ended is None and not done:
                self._waiters.append(_Waiter(sequence, settle))
                self._dirty = self._urgent = True
                self._changed.notify_all()
                return
        settle(None if done else ended)

    def confirm(self) -> None:
        """Before a commit: returns at once when the bucket answered lately, else asks first. Raises Fenced.

        A bucket that does not answer does not stop local writes: what they cannot be told now, they find out at the next shipment.
        """
        if self._ended is None and clock() - self._confirmed < CERTAIN_S:
            return
        with self._changed:
            if self._trouble is None and self._ended is None:
                self._asking = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._asking or self._ended is not None, CONFIRM_S)
            if self._ended is not None:
                raise self._ended

    def wait_shipped(self, sequence: int, timeout_s: float) -> bool:
        """Blocks until all rows up to `sequence` are in the bucket. Raises what ended the shipper."""
        done = threading.Event()
        outcome: list[SnapshotError | None] = []

        def settle(error: SnapshotError | None) -> None:
            outcome.append(error)
            done.set()

        self.when_shipped(sequence, settle)
        if not done.wait(timeout_s):
            return False
        if outcome[0] is not None:
            raise outcome[0]
        return True

    def stop(self, timeout_s: float) -> bool:
        """Ships what is there, then ends. True when everything was shipped in time."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive() and self._ended is None and self._mark.log.sequence >= self._journal.sequence

    def _run(self) -> None:
        pause = RETRY_S
        while True:
            work = self._next()
            if work is None:
                return
            try:
                work()
                self._settle_trouble(None)
                pause = RETRY_S
            except Unreachable as error:
                self._settle_trouble(error)
                self.figures.failures += 1
                self._report("shipping failed, trying again", {"error": str(error), "retry_s": round(pause, 1)})
                self._sleep(pause * (0.5 + random()))  # noqa: S311 - jitter
                pause = min(pause * 2, RETRY_MAX_S)
            except SnapshotError as error:
                self._end(error)
                return
            except Exception as error:  # noqa: BLE001 - the thread ends, and with it the process: nothing is swallowed
                self._end(SnapshotError(f"unexpected {type(error).__name__} while shipping: {error}"))
                return

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next thing to do; None at the end."""
        with self._changed:
            while True:
                now = clock()
                due = self._shipped_at + self._interval_s
                if self._frozen is not None or (self._dirty and (self._urgent or self._stopping or now >= due)):
                    return self._ship
                if self._stopping:
                    return None
                if self._asking or now >= self._confirmed + ASK_S:
                    return self._ask
                until = min(self._confirmed + ASK_S, due if self._dirty else float("inf"))
                self._changed.wait(max(0.0, until - now))

    def _sleep(self, seconds: float) -> None:
        with self._changed:
            if self._stopping:
                self._changed.wait(min(seconds, RETRY_S))
            else:
                self._changed.wait_for(lambda: self._stopping, seconds)

    def _ship(self) -> None:
        """One object. Rows that came meanwhile are for the next."""
        with self._changed:
            self._dirty = self._urgent = False
        try:
            if self._frozen is None:
                self._frozen = self._freeze()
            if self._frozen is None:
                return
            header, body, digest = self._frozen
            reach("ship.frozen")
            if not self._prefix.bucket.create(log_key(header.lineage, header.number), body):
                raise self._fenced(header)
        except SnapshotError:
            with self._changed:
                self._dirty = True
            raise
        reach("ship.created")
        self._advance(Place(header.number, digest, header.last, header.bytes_before + len(body)))
        self.figures.objects += 1
        self.figures.rows += header.rows
        self.figures.bytes += len(body)

    def _freeze(self) -> tuple[Header, bytes, str] | None:
        """The next object, None when there is nothing to ship."""
        end = self._mark.log
        rows = self._journal.log_after(end.sequence, OBJECT_BYTES)
        if not rows:
            return None
        header = Header(
            lineage=self._mark.lineage,
            epoch=self._mark.epoch,
            writer=self._mark.writer,
            number=end.number + 1,
            previous=end.digest,
            first=rows[0].sequence,
            last=rows[-1].sequence,
            rows=len(rows),
            created_us=time.time_ns() // 1000,
            bytes_before=end.bytes,
        )
        return header, *freeze(header, rows)

    def _advance(self, place: Place) -> None:
        mark = msgspec.structs.replace(self._mark, log=place)
        write_mark(self._live, mark)
        reach("ship.marked")
        self._journal.release_log(place.sequence)
        with self._changed:
            self._frozen = None
            self._mark = mark
            self._shipped_at = self._confirmed = clock()
            self._dirty = self._dirty or self._journal.sequence > place.sequence
            ready = [waiter for waiter in self._waiters if waiter.sequence <= place.sequence]
            self._waiters = [waiter for waiter in self._waiters if waiter.sequence > place.sequence]
            self._urgent = bool(self._waiters)
            self._asking = False
            self._changed.notify_all()
        for waiter in ready:
            waiter.settle(None)

    def _ask(self) -> None:
        """Still the owner while nobody took the next name."""
        number = self._mark.log.number + 1
        taken = self._prefix.bucket.head(log_key(self._mark.lineage, number)) is not None
        self.figures.asked += 1
        if taken:
            raise Fenced(f"log object {number} of {self._prefix.bucket.url} was created by another writer: {self._owner()}")
        with self._changed:
            self._confirmed = clock()
            self._asking = False
            self._changed.notify_all()

    def _fenced(self, header: Header) -> Fenced:
        return Fenced(f"log object {header.number} of {self._prefix.bucket.url} was created by another writer: {self._owner()}")

    def _owner(self) -> str:
        """Who took over, for people."""
        try:
            newest = self._prefix.newest()
        except SnapshotError as error:
            return f"who, cannot be read: {error}"
        return "unknown" if newest is None else f"writer {newest.writer} on {newest.host} owns epoch {newest.epoch}"

    def _settle_trouble(self, error: SnapshotError | None) -> None:
        with self._changed:
            self._trouble = error
            if error is not None:
                self._asking = False
            self._changed.notify_all()

    def _end(self, error: SnapshotError) -> None:
        with self._changed:
            self._ended = error
            waiters, self._waiters = self._waiters, []
            self._changed.notify_all()
        for waiter in waiters:
            waiter.settle(error)
        self._on_end(error)


def clock() -> float:
    """Seconds that also pass while the process or the machine is frozen."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
