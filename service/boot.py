"""The life of the process: opening → catching-up → ready → draining, or failed. Owner of the engine and of the lanes.

The engine is opened in a thread, so probes answer meanwhile. What ends the process is reported once, through `on_end`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

import msgspec

from service.api.access import State
from service.api.errors import NotReady
from service.engine.engine import Engine
from service.engine.errors import Damaged, EngineError, Fatal
from service.engine.options import Options
from service.engine.requests import Answer, Request
from service.lanes import ReadLane, WriteLane
from service.logs import event, logger
from service.settings import Settings
from service.telemetry import Metrics

T = TypeVar("T")

EXIT_FAILED = 1
EXIT_FATAL = 70
EXIT_DAMAGED = 78
FATAL_EVENT = "fatal"


class End(msgspec.Struct, frozen=True):
    """Why the process cannot go on, and its exit code."""

    code: int
    reason: str


class Boot:
    """What `service.api.access.Access` describes. Lives as long as the process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._state = State("opening", "the data directory is being opened", serves=False)
        self._reads = ReadLane(settings.read_threads, settings.read_queue)
        self._observer = ReadLane(1, settings.read_queue)
        """A thread of its own for /metrics: it answers when all searching threads are busy."""
        self._engine: Engine | None = None
        self._writes: WriteLane | None = None
        self._thread = threading.Thread(target=self._open, name="boot", daemon=True)
        self._changed = threading.Condition()
        self._end: End | None = None
        self._on_end: Callable[[End], None] = _ignore
        metrics.watch(self._lane_depths, lambda: self._state.name == "ready", self._engine_figures)

    @property
    def state(self) -> State:
        return self._state

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

    def write(self, request: Request, size: int) -> Awaitable[Answer]:
        self._serving_engine()
        if self._writes is None:
            raise AssertionError("an engine that serves has a write lane")
        return self._writes.submit(request, size)

    def metrics(self) -> Awaitable[bytes]:
        return self._observer.run(self._metrics.text)

    def drain(self) -> None:
        """Readiness ends; requests are still answered."""
        if self._state.name != "failed":
            self._set_state(State("draining", "the process was told to stop", serves=self._state.serves))

    def close(self, timeout_s: float) -> bool:
        """Finishes what waits, then closes the engine. True when everything ended in time; then the directory is free."""
        deadline = time.monotonic() + timeout_s
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        lanes = [lane for lane in (self._reads, self._writes, self._observer) if lane is not None]
        closed = [lane.close(max(0.0, deadline - time.monotonic())) for lane in lanes]
        if self._thread.is_alive() or not all(closed):
            return False
        if self._engine is not None:
            self._engine.close()
        return True

    def _serving_engine(self) -> Engine:
        state = self._state
        if self._engine is None or not state.serves:
            raise NotReady(f"the service is not ready, its state is {state.name}: {state.reason}; send the request again soon")
        return self._engine

    def _open(self) -> None:
        try:
            engine = Engine.open(self._settings.directory, options(self._settings), on_event=self._note)
            self._engine = engine
            self._set_state(State("catching-up", "files that follow from the data are checked and rebuilt", serves=False))
            engine.catch_up()
            self._writes = self._write_lane(engine)
            engine.start_background()
        except EngineError as error:
            self._fail(End(EXIT_DAMAGED if isinstance(error, Damaged) else EXIT_FAILED, str(error)))
        except OSError as error:
            self._fail(End(EXIT_FAILED, f"the data directory {self._settings.directory} cannot be used: {error.strerror}"))
        except BaseException as error:
            logger.critical("opening failed", exc_info=error)
            self._fail(End(EXIT_FAILED, f"unexpected {type(error).__name__} while opening: {error}"))
            raise
        else:
            self._set_state(State("ready", "", serves=True))

    def _write_lane(self, engine: Engine) -> WriteLane:
        return WriteLane(
            engine.commit,
            queue_max=self._settings.write_queue,
            queue_bytes_max=self._settings.write_queue_bytes,
            on_fatal=self._stop_writing,
            on_commit=self._metrics.count_commit,
        )

    def _stop_writing(self, error: BaseException) -> None:
        if not isinstance(error, Fatal):
            logger.critical("unexpected error in the write lane", exc_info=error)
        self._fail(End(EXIT_FATAL, f"a commit failed, the process ends and must be started again: {error}"))

    def _note(self, name: str, members: dict[str, object]) -> None:
        """What the engine reports, on any of its threads."""
        self._metrics.count_event(name)
        event(logging.WARNING if name == FATAL_EVENT else logging.INFO, name, **members)
        if name == FATAL_EVENT:
            self._fail(End(EXIT_FATAL, f"background work failed, the process ends and must be started again: {members.get('error')}"))

    def _fail(self, end: End) -> None:
        self._set_state(State("failed", end.reason, serves=False), end)
        self._on_end(end)

    def _set_state(self, state: State, end: End | None = None) -> None:
        with self._changed:
            if self._state.name == "failed" or (self._state.name == "draining" and state.name != "failed"):
                return
            self._state = state
            self._end = end
            self._changed.notify_all()
        event(logging.INFO, "state", state=state.name)

    def _lane_depths(self) -> dict[str, int]:
        return {"read": self._reads.depth, "write": self._writes.depth if self._writes is not None else 0}

    def _engine_figures(self) -> dict[str, int]:
        return {} if self._engine is None or not self._state.serves else flatten(self._engine.stats())


def options(settings: Settings) -> Options:
    """What the engine is told of the settings."""
    return Options(
        match_threshold=settings.match_threshold_units,
        match_threshold_simprints=settings.match_threshold_simprints,
        confidence_exponent=settings.confidence_exponent,
        max_candidates=settings.max_candidates,
        max_query_simprints=settings.max_query_simprints,
        max_chunk_postings=settings.max_chunk_postings,
        segment_codes=settings.segment_codes,
        exact_max_codes=settings.exact_max_codes,
        disk_free_min_bytes=settings.disk_free_min_bytes,
    )


def flatten(stats: msgspec.Struct) -> dict[str, int]:
    """Members of nested structs under their own names."""
    figures: dict[str, int] = {}
    for name, value in msgspec.structs.asdict(stats).items():
        figures.update(flatten(value) if isinstance(value, msgspec.Struct) else {name: int(value)})
    return figures


def _ignore(_: End) -> None:
    """Before somebody listens: `on_end` looks back."""
