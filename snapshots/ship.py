"""The shipper: the thread that puts the log into the bucket, and that knows whether this process still owns the prefix.

An object's bytes are frozen before the first attempt and tried again under the same number until the outcome is known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from random import random

import msgspec

from snapshots.clock import STOOD_STILL, Clock
from snapshots.errors import Fenced, LocalFault, NoRoom, Refused, SnapshotError, Unreachable
from snapshots.failpoints import reach
from snapshots.mark import Mark, write_mark
from snapshots.paths import log_key
from snapshots.prefix import Prefix
from snapshots.shipment import Shipment, next_shipment
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
        clock: Clock | None = None,
    ) -> None:
        self._prefix = prefix
        self._live = live
        self._journal = journal
        self._interval_s = interval_s
        self._on_end = on_end
        self._report = report
        self._clock = clock or Clock()
        self._changed = threading.Condition()
        self._mark = mark
        self._frozen: Shipment | None = None
        self._dirty = True
        self._urgent = self._asking = self._stopping = False
        self._silent = False
        """A commit waited for an answer in vain: the next ones do not wait until there is one."""
        self._doubt = STOOD_STILL
        self._waiters: list[_Waiter] = []
        self._confirmed = float("-inf")
        """When the question was asked that the bucket last answered: an answer may lie unread while the process is frozen. Never at first:
        a process that was frozen between its claim and this may have lost the prefix."""
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
        self._clock.watch(self._woke)
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

        A bucket that does not answer does not stop local writes: what they cannot be told now, they find out at the next shipment. But
        a process that stood still may have lost the prefix meanwhile: until the bucket answers it raises Unreachable, as a start would.
        """
        self._clock.beat()
        if self._ended is None and self._is_certain():
            return
        with self._changed:
            if self._trouble is None and self._ended is None and not self._silent:
                self._asking = True
                self._changed.notify_all()
                self._silent = not self._changed.wait_for(lambda: not self._asking or self._ended is not None, CONFIRM_S)
            if self._ended is not None:
                raise self._ended
            if self._in_doubt():
                raise Unreachable(
                    f"{self._doubt}, and the bucket has not said since then who owns the data: {self._trouble or 'it does not answer'}"
                )

    def _is_certain(self) -> bool:
        return not self._in_doubt() and self._clock.now_s() - self._confirmed < CERTAIN_S

    def _in_doubt(self) -> bool:
        """The bucket was not asked since this process stood still."""
        return self._stood_still_since(self._confirmed)

    def _stood_still_since(self, time_s: float) -> bool:
        return self._clock.awake_since_s > time_s

    def _woke(self, how: str, seconds: float) -> None:
        """What was known of the bucket before is worth nothing: a pause is cut short, and a commit waits for an answer again."""
        with self._changed:
            self._doubt = how
            self._trouble, self._silent = None, False
            self._changed.notify_all()
        self._report(how, {"seconds": round(seconds, 1)})

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
        try:
            self._work()
        except SnapshotError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - the thread ends, and with it the process: nothing is swallowed
            self._end(SnapshotError(f"unexpected {type(error).__name__} while shipping: {error}"))
        finally:
            self._clock.end()

    def _work(self) -> None:
        pause = RETRY_S
        while (work := self._next()) is not None:
            began = self._clock.now_s()
            try:
                work()
            except LocalFault:
                raise
            except (Unreachable, NoRoom, Refused) as error:  # all can pass, also wrong credentials, and what was begun is done again
                self.figures.failures += 1
                self._report("shipping failed, trying again", {"error": str(error), "retry_s": round(pause, 1)})
                if not self._stood_still_since(began):
                    self._settle_trouble(error)
                    self._sleep(pause * (0.5 + random()), began)  # noqa: S311 - jitter
                pause = RETRY_S if self._stood_still_since(began) else min(pause * 2, RETRY_MAX_S)
            else:
                self._settle_trouble(None)
                pause = RETRY_S

    def _next(self) -> Callable[[], None] | None:
        """Waits for the next thing to do; None at the end."""
        with self._changed:
            while True:
                now = self._clock.now_s()
                due = self._shipped_at + self._interval_s
                if self._frozen is not None or (self._dirty and (self._urgent or self._stopping or now >= due)):
                    return self._ship
                if self._stopping and self._journal.sequence > self._mark.log.sequence:
                    return self._ship
                if self._stopping:
                    return None
                if self._asking or self._in_doubt() or now >= self._confirmed + ASK_S:
                    return self._ask
                until = min(self._confirmed + ASK_S, due if self._dirty else float("inf"))
                self._clock.wait(self._changed, max(0.0, until - now))

    def _sleep(self, seconds: float, began: float) -> None:
        """Not on when the process stands still after `began`."""
        with self._changed:
            end = self._clock.now_s() + (min(seconds, RETRY_S) if self._stopping else seconds)
            while (left := end - self._clock.now_s()) > 0 and not self._stood_still_since(began):
                self._clock.wait(self._changed, left)
                if self._stopping:
                    return

    def _ship(self) -> None:
        """One object. Rows that came meanwhile are for the next."""
        with self._changed:
            self._dirty = self._urgent = False
        again, began = self._frozen is not None, self._clock.now_s()
        frozen = self._frozen = self._frozen or next_shipment(self._mark, self._journal, OBJECT_BYTES)
        if frozen is None:
            return
        reach("ship.frozen")
        if not self._prefix.bucket.create(log_key(frozen.header.lineage, frozen.header.number), frozen.body):
            raise self._fenced(frozen.header.number)
        reach("ship.created")
        if not again:  # an earlier try may have stored it long ago, which says nothing of today
            self._confirm(began)
        self._advance(frozen)

    def _advance(self, shipped: Shipment) -> None:
        """May be done again after an error: the object is there. When it had no room for all, the next one follows at once."""
        place = shipped.place
        mark = msgspec.structs.replace(self._mark, log=place)
        write_mark(self._live, mark)
        reach("ship.marked")
        self._journal.release_log(place.sequence)
        self.figures.objects += 1
        self.figures.rows += shipped.header.rows
        self.figures.bytes += len(shipped.body)
        with self._changed:
            self._frozen = None
            self._mark = mark
            self._shipped_at = self._clock.now_s()
            self._dirty = self._dirty or self._journal.sequence > place.sequence
            ready = [waiter for waiter in self._waiters if waiter.sequence <= place.sequence]
            self._waiters = [waiter for waiter in self._waiters if waiter.sequence > place.sequence]
            self._urgent = shipped.is_full or bool(self._waiters)
            self._changed.notify_all()
        _settle(ready, None)

    def _ask(self) -> None:
        """Still the owner while nobody took the next name."""
        number, began = self._mark.log.number + 1, self._clock.now_s()
        taken = self._prefix.bucket.head(log_key(self._mark.lineage, number)) is not None
        self.figures.asked += 1
        if taken:
            raise self._fenced(number)
        self._confirm(began)

    def _confirm(self, began: float) -> None:
        """The bucket answered a question of that moment. Who waits for certainty goes on if that is not long ago."""
        with self._changed:
            self._confirmed = max(self._confirmed, began)
            self._silent = False
            self._asking = self._asking and not self._is_certain()
            self._changed.notify_all()

    def _fenced(self, number: int) -> Fenced:
        return Fenced(f"log object {number} of {self._prefix.bucket.url} was created by another writer: {self._owner()}")

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
        try:
            _settle(waiters, error)
        finally:
            self._on_end(error)


def _settle(waiters: list[_Waiter], error: SnapshotError | None) -> None:
    """Tells all, also when telling one of them fails."""
    with ExitStack() as calls:
        for waiter in reversed(waiters):
            calls.callback(waiter.settle, error)
