"""The life of the process: restoring → opening → catching-up → ready → draining, or failed. Owner of the engine, the lanes and the keeper.

All of it begins in a thread, so probes answer meanwhile. What ends the process is reported once, through `on_end`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from service.api.access import State
from service.api.errors import NotReady
from service.api.schema_snapshots import SnapshotStatus
from service.boot.arrival import Arrival, Owned
from service.boot.chores import Chores, Schedule
from service.boot.ended import Failures
from service.boot.exits import EXIT_DAMAGED, EXIT_FAILED, EXIT_FATAL, End, exit_code
from service.boot.figures import Running, background, figures, flatten, status
from service.boot.front import Front
from service.boot.jobs import Job, Jobs
from service.boot.keeper import Keeper
from service.boot.shedding import Shedding
from service.boot.stopping import log_s, phase, writes_s
from service.boot.terms import options, permissions, policy
from service.boot.trust import examine
from service.engine.engine import Engine
from service.engine.errors import Busy, Damaged, EngineError, Fatal, Invalid
from service.engine.files import LIVE, DirectoryLock
from service.engine.opening import refuse_foreign
from service.engine.requests import Answer, Request
from service.lanes import ReadLane, WriteLane
from service.logs import event, logger
from service.meter import Meter
from service.settings import NO_BUCKET, Settings
from snapshots.addresses import open_bucket
from snapshots.errors import LocalFault, SnapshotError, Unreachable
from snapshots.prefix import Prefix
from snapshots.timed import TimedBucket

T = TypeVar("T")

FATAL_EVENT = "fatal"
CLAIM_AGAIN_S = 5.0
SHIPPED_PATIENCE_S = 30.0
"""So long a write with `durability=remote` waits for the bucket."""


class Boot:
    """What `service.api.access.Access` describes. Lives as long as the process."""

    def __init__(self, settings: Settings, metrics: Meter, adopt: str = "") -> None:
        self._settings = settings
        self._metrics = metrics
        self._adopt = adopt
        self._state = State("opening", "the data directory is being opened", serves=False)
        self._reads = ReadLane(settings.read_threads, settings.read_queue)
        self._observer = ReadLane(1, settings.read_queue)
        """A thread of its own for /metrics: it answers when all searching threads are busy."""
        self._lock: DirectoryLock | None = None
        self._failures: Failures | None = None
        self._noting = threading.Lock()
        self._noted = False
        self._engine: Engine | None = None
        self._shedding = Shedding(settings.directory, settings.disk_free_min_bytes, settings.memory_max_bytes)
        self._writes: WriteLane | None = None
        self._arrival: Arrival | None = None
        self._keeper: Keeper | None = None
        self._chores: Chores | None = None
        self._jobs: Jobs | None = None
        self.unfinished = ""
        """What `close` could not finish, for people."""
        self.unsafe_store = ""
        """Why the store does not keep what it promises, when that was accepted; empty when it does."""
        self._read_only = ""
        """Why nothing can be written although the service answers; empty when it can."""
        self._thread = threading.Thread(target=self._open, name="boot", daemon=True)
        self._entered = time.monotonic()
        """When the state began."""
        self._stopping = threading.Event()
        self._changed = threading.Condition()
        self._end: End | None = None
        self._on_end: Callable[[End], None] = _ignore
        self._running: Running | None = None
        self._front = Front(lambda: self._running, lambda: self._read_only or self._state.reason, self._snapshot_status)
        metrics.watch(self._lane_depths, lambda: self._state.name, self._engine_figures, self._snapshot_figures)
        metrics.watch_background(self._background_queue, self._shedding.shown)

    @property
    def state(self) -> State:
        arrival = self._arrival
        if arrival is None or self._state.name not in ("restoring", "catching-up"):
            return self._state
        progress = arrival.progress
        return msgspec.structs.replace(
            self._state,
            phase=progress.phase,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            eta_s=progress.eta_s() if progress.bytes_total else None,
        )

    @property
    def end(self) -> End | None:
        """Why the process cannot go on, once that is so."""
        return self._end

    def start(self, patience_s: float) -> End | None:
        """Begins to open. Comes back once the directory is open, or cannot be opened (then with the reason), or after `patience_s`."""
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._state.name != "opening", patience_s)
            return self._end

    def on_end(self, callback: Callable[[End], None]) -> None:
        """Has `callback` called, on any thread, once the process cannot go on; at once when that is so already."""
        with self._changed:
            self._on_end = callback
            end = self._end
        if end is not None:
            callback(end)

    def read(self, job: Callable[[Engine], T]) -> Awaitable[T]:
        return self._reads.run(partial(job, self._serving_engine()))

    def write(self, request: Request, size: int, *, remote: bool | None = None) -> Awaitable[Answer]:
        """`remote`: the answer comes when the bucket has it. None: as the settings say."""
        engine = self._serving_engine()
        if self._writes is None:
            raise AssertionError("an engine that serves has a write lane")
        if self._read_only:
            raise Busy(f"{self._read_only}; searches are answered, writes are not: send the request again later")
        if remote is None:
            remote = self._settings.durability == "remote"
        if self._keeper is None:
            if remote:
                raise Invalid("durability=remote needs a bucket, and ISCC_SEARCH_SNAPSHOT_URL is none")
            return self._writes.submit(request, size)
        if engine.log_bytes > self._settings.log_backlog_bytes:
            raise Busy(
                f"{engine.log_bytes >> 20} MB of writes wait for the bucket (ISCC_SEARCH_LOG_BACKLOG_BYTES), which does not take them: "
                f"{self._keeper.shipper.trouble or 'it is slower than the writes'}; send the request again later"
            )
        written = self._writes.submit(request, size)
        return _shipped(written, engine, self._keeper) if remote else written

    @property
    def snapshots(self) -> Front | None:
        return self._front if self._settings.snapshot_url != NO_BUCKET else None

    def metrics(self) -> Awaitable[bytes]:
        return self._observer.run(self._metrics.text)

    def drain(self) -> None:
        """Readiness ends; requests are still answered."""
        if self._state.name != "failed":
            self._set_state(State("draining", "the process was told to stop", serves=self._state.serves))

    def close(self, timeout_s: float) -> bool:
        """Finishes what waits, then closes the engine. True when everything ended in time; then the directory is free."""
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(0.0 if self._engine is None else timeout_s / 2)
        if self._thread.is_alive() and not self._state.serves:
            return True  # a start that was not ready: it goes on where it was at the next start
        if self._jobs is not None:
            self._jobs.stop()
        self._front.close()
        ended = self._end_lanes(max(0.0, deadline - time.monotonic()))
        shipped = self._ship_rest(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() or not ended or not shipped:
            return False  # closing LMDB under a reader would end the process the hard way
        with phase("close", max(0.0, deadline - time.monotonic())):
            if self._engine is not None:
                self._engine.close()
            if self._lock is not None:
                self._lock.release()
        return not self.unfinished

    def _end_lanes(self, left_s: float) -> bool:
        """Nothing is taken any more. True when all that waited is done."""
        at_most_s = writes_s(left_s)
        deadline = time.monotonic() + at_most_s
        with phase("writes", at_most_s):
            lanes = [lane for lane in (self._writes, self._reads, self._observer) if lane is not None]
            ended = [lane.close(max(0.0, deadline - time.monotonic())) for lane in lanes]
        return all(ended)

    def _ship_rest(self, left_s: float) -> bool:
        """The end of the log, whatever else hangs. True when nothing of this reads the engine any more."""
        if self._keeper is None:
            return True
        with phase("log", log_s(left_s)):
            self.unfinished = self._keeper.stop(log_s(left_s))
        return not self._keeper.uses_engine

    def _serving_engine(self) -> Engine:
        state = self._state
        if self._engine is None or not state.serves:
            raise NotReady(f"the service is not ready, its state is {state.name}: {state.reason}; send the request again soon")
        return self._engine

    def _open(self) -> None:
        try:
            self._bring_up()
        except SnapshotError as error:
            self._fail(End(exit_code(error), str(error)), error)
        except EngineError as error:
            self._fail(End(EXIT_DAMAGED if isinstance(error, Damaged) else EXIT_FAILED, str(error)))
        except OSError as error:
            self._fail(End(EXIT_FAILED, f"the data directory {self._settings.directory} cannot be used: {error.strerror}"), error)
        except BaseException as error:
            logger.critical("opening failed", exc_info=error)
            self._fail(End(EXIT_FAILED, f"unexpected {type(error).__name__} while opening: {error}"))
            raise

    def _bring_up(self) -> None:
        directory = self._settings.directory
        refuse_foreign(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = DirectoryLock(directory)
        self._failures = Failures(directory)
        owned = self._arrive(directory, self._lock)
        if self._engine is None:
            raise AssertionError("an arrival ends with an engine")
        self._writes = self._write_lane()
        self._engine.shed_when(self._shedding.disk.is_short, self._shedding.memory.is_short)
        self._engine.start_background()
        if owned is not None:
            self._keep(owned)
        self._set_state(State("ready", self._read_only, serves=True))
        self._failures.end_row()
        if self._read_only:
            self._claim_later()

    def _arrive(self, directory: Path, lock: DirectoryLock) -> Owned | None:
        if self._settings.snapshot_url == NO_BUCKET:
            self._engine = Engine.open(directory, options(self._settings), on_event=self._note, lock=lock)
            self._set_state(State("catching-up", "files that follow from the data are checked and rebuilt", serves=False))
            self._engine.catch_up()
            return None
        opened = open_bucket(self._settings.snapshot_url, self._settings.environment, encryption=self._settings.snapshot_encryption)
        bucket = TimedBucket(opened, self._note_call)
        self.unsafe_store = examine(bucket, directory, accept=self._settings.snapshot_unsafe)
        allowed = permissions(self._settings, self._adopt)
        self._arrival = Arrival(directory, lock, Prefix(bucket), options(self._settings), allowed, self._enter, self._note)
        arrived = self._arrival.run()
        self._engine = arrived.engine
        if arrived.owned is None:
            self._read_only = f"the bucket {self._settings.snapshot_url} could not be reached at the start"
        return arrived.owned

    def _keep(self, owned: Owned) -> None:
        if self._engine is None or self._arrival is None:
            raise AssertionError("a claim comes after an arrival")
        directory = self._settings.directory
        keeper = Keeper(
            self._engine,
            self._arrival.prefix,
            directory,
            directory / LIVE,
            owned,
            self._settings.log_interval,
            lambda error: self._fail(End(exit_code(error), str(error)), error),
            self._note,
        )
        opts = options(self._settings)
        schedule = Schedule(
            self._settings.snapshot_verify_interval,
            self._settings.snapshot_drill_interval,
            self._settings.snapshot_heartbeat_url,
            policy(self._settings),
        )
        self._chores = Chores(keeper, directory, opts, schedule, self._note, self._shedding.is_short)

        def checkpoint() -> None:
            if not self._shedding.is_short():
                keeper.checkpoint_if_due()

        self._jobs = Jobs([Job("checkpoint", self._settings.snapshot_interval, checkpoint), *self._chores.jobs()])
        keeper.start()
        self._jobs.start()
        self._keeper = keeper
        self._running = Running(self._engine, keeper, self._chores, self._jobs)

    def _claim_later(self) -> None:
        """On the boot thread, while searches are answered: asks the bucket until it can be claimed."""
        while not self._stopping.wait(CLAIM_AGAIN_S):
            if self._arrival is None or self._engine is None:
                raise AssertionError("reading without a bucket comes after an arrival")
            try:
                self._keep(self._arrival.claim_later(self._engine))
            except Unreachable as error:
                logger.warning("the bucket still cannot be reached: %s", error)
                continue
            self._read_only = ""
            self._set_state(State("ready", "", serves=True))
            return

    def _enter(self, name: str, reason: str) -> None:
        """A state on the way to ready. While searches are answered already, nothing changes for those who ask."""
        if not self._state.serves:
            self._set_state(State(name, reason, serves=False))

    def _commit(self, requests: Sequence[Request]) -> list[Answer | EngineError]:
        if self._keeper is None:
            if self._engine is None:
                raise AssertionError("a write lane has an engine")
            return self._engine.commit(requests)
        try:
            return self._keeper.commit(requests)
        except Unreachable as error:  # the lane goes on: it may own the data still
            return [Busy(f"{error}; nothing was written, send the request again later")] * len(requests)
        except SnapshotError as error:
            raise Busy(f"this process does not own the data any more, nothing was written: {error}") from error

    def _write_lane(self) -> WriteLane:
        return WriteLane(
            self._commit,
            queue_max=self._settings.write_queue,
            queue_bytes_max=self._settings.write_queue_bytes,
            on_fatal=self._stop_writing,
            on_commit=self._note_commit,
        )

    def _stop_writing(self, error: BaseException) -> None:
        if isinstance(error.__cause__, SnapshotError):
            self._fail(End(exit_code(error.__cause__), str(error)), error.__cause__)
            return
        if not isinstance(error, Fatal):
            logger.critical("unexpected error in the write lane", exc_info=error)
        self._fail(End(EXIT_FATAL, f"a commit failed, the process ends and must be started again: {error}"))

    def _note(self, name: str, members: dict[str, object]) -> None:
        """What the engine reports, on any of its threads."""
        self._metrics.count_event(name)
        bad = name == FATAL_EVENT or "failed" in name or "damaged" in name
        event(logging.WARNING if bad else logging.INFO, name, **members)
        if name == FATAL_EVENT:
            self._fail(End(EXIT_FATAL, f"background work failed, the process ends and must be started again: {members.get('error')}"))

    def _note_call(self, operation: str, result: str, seconds: float) -> None:
        self._metrics.count_bucket(operation, result, seconds)
        event(logging.DEBUG, "bucket", op=operation, result=result, ms=round(seconds * 1000, 3))

    def _note_commit(self, requests: int, seconds: float) -> None:
        self._metrics.count_commit(requests, seconds)
        event(logging.DEBUG, "commit", requests=requests, ms=round(seconds * 1000, 3))

    def _fail(self, end: End, cause: BaseException | None = None) -> None:
        """The note comes first: whoever waits for the state ends the process. None when the disk failed, under which a write may hang."""
        if end.code != EXIT_FATAL and not isinstance(cause, LocalFault | OSError):
            self._leave_note(end)
        self._set_state(State("failed", end.reason, serves=False), end)
        self._on_end(end)

    def _leave_note(self, end: End) -> None:
        """Once: a process that is fenced fails on two threads. The second waits for the note of the first."""
        with self._noting:
            before, failures = self._state, self._failures
            if failures is not None and before.name != "failed" and not self._noted:
                self._noted = True
                failures.note(end.code, before.name, end.reason, served=before.serves)

    def _set_state(self, state: State, end: End | None = None) -> None:
        with self._changed:
            if self._state.name == "failed" or (self._state.name == "draining" and state.name != "failed"):
                return
            entered, now = state.name != self._state.name, time.monotonic()
            seconds, self._entered = now - self._entered, now if entered else self._entered
            before, self._state = self._state.name, state
            self._end = end
            if entered:  # told before anybody who waits can end the process
                level = logging.ERROR if state.name == "failed" else logging.INFO
                event(level, "state", state=state.name, reason=state.reason, before=before, seconds=round(seconds, 3))
            self._changed.notify_all()

    def _lane_depths(self) -> dict[str, int]:
        return {"read": self._reads.depth, "write": self._writes.depth if self._writes is not None else 0}

    def _snapshot_status(self) -> SnapshotStatus:
        return status(self._settings, self._running, self._read_only, self.unsafe_store)

    def _snapshot_figures(self) -> dict[str, object]:
        last = self._failures.last if self._failures is not None else None
        found = figures(self._settings.directory, self._engine, self._arrival, self._running, self.unsafe_store, last)
        return msgspec.structs.asdict(found)

    def _background_queue(self) -> dict[str, int]:
        return {} if self._engine is None or not self._state.serves else background(self._engine, self._running)

    def _engine_figures(self) -> dict[str, int]:
        return {} if self._engine is None or not self._state.serves else flatten(self._engine.stats())


async def _shipped(written: Awaitable[Answer], engine: Engine, keeper: Keeper) -> Answer:
    """The answer of a write, once the bucket has it."""
    answer = await written
    loop = asyncio.get_running_loop()
    stored: asyncio.Future[None] = loop.create_future()

    def finish(error: SnapshotError | None) -> None:
        if not stored.done():
            stored.set_result(None) if error is None else stored.set_exception(error)

    def settle(error: SnapshotError | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(finish, error)

    keeper.shipper.when_shipped(engine.sequence, settle)
    try:
        await asyncio.wait_for(stored, SHIPPED_PATIENCE_S)
    except (SnapshotError, TimeoutError) as error:
        why = error if isinstance(error, SnapshotError) else keeper.shipper.trouble or "the bucket is slow"
        raise Busy(f"the write is on this machine's disk, but not in the bucket yet: {why}; send it again, which is harmless") from error
    return answer


def _ignore(_: End) -> None:
    """Before somebody listens: `on_end` looks back."""
