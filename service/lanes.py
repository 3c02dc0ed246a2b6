"""The lanes: the threads through which synchronous work is entered from the event loop.

Both are bounded: what does not fit is refused with Busy at once, it never waits unseen. Results come back as asyncio futures, so no thread
of a lane ever waits for the other lane.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

from service.engine.errors import Busy, EngineError, NoSpace
from service.engine.requests import Answer, Request

T = TypeVar("T")
Result = Answer | EngineError


_Job = tuple["asyncio.Future[Any]", Callable[[], Any]]


class _Reader:
    """One thread of a read lane. It sleeps on a lock of its own, so that a job wakes one thread and no other."""

    def __init__(self) -> None:
        self.asleep = threading.Lock()
        self.asleep.acquire()
        self.job: _Job | None = None
        """What it does next; None at the wake-up ends it."""


class ReadLane:
    """A fixed number of threads for searches and for decoding bodies. Lives as long as the process; `run` is called on the event loop.

    The thread that became idle last is woken first: its caches are warm, and the others sleep on.
    """

    def __init__(self, threads: int, queue_max: int) -> None:
        self.depth = 0
        """Jobs that wait or run. Changed on the event loop only."""
        self._depth_max = threads + queue_max
        self._queue_max = queue_max
        self._closed = False
        self._mutex = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._idle: list[_Reader] = [_Reader() for _ in range(threads)]
        self._threads = [
            threading.Thread(target=self._work, args=(reader,), name=f"read-{i}", daemon=True) for i, reader in enumerate(self._idle)
        ]
        for thread in self._threads:
            thread.start()

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Result of the job, or what it raised. Raises Busy when the lane is full or closed."""
        if self._closed:
            raise Busy("the service is stopping: send the request to another instance, or again later")
        if self.depth >= self._depth_max:
            raise Busy(f"the read lane is full: {self._queue_max} requests wait (ISCC_SEARCH_READ_QUEUE), send the request again")
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.depth += 1
        with self._mutex:
            if not self._idle:
                self._waiting.append((future, job))
                return future
            reader = self._idle.pop()
        reader.job = (future, job)
        reader.asleep.release()
        return future

    def close(self, timeout_s: float) -> bool:
        """No new jobs; jobs that wait are done. True when all threads have ended."""
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
        for reader in idle:
            reader.asleep.release()
        return _join(self._threads, timeout_s)

    def _work(self, reader: _Reader) -> None:
        while True:
            reader.asleep.acquire()
            job, reader.job = reader.job, None
            if job is None:
                return
            while job is not None:
                self._do(*job)
                job = self._next(reader)

    def _next(self, reader: _Reader) -> _Job | None:
        """What waits; None sends the thread to sleep, or to its end when the lane is closed."""
        with self._mutex:
            if self._waiting:
                return self._waiting.popleft()
            if self._closed:
                reader.asleep.release()
            else:
                self._idle.append(reader)
            return None

    def _do(self, future: asyncio.Future[Any], job: Callable[[], Any]) -> None:
        try:
            result = job()
        except EngineError as error:
            # Its traceback would hold the job's frames, and with them a read transaction, in a cycle with the future.
            self._answer(future, None, error.with_traceback(None))
        except BaseException as error:  # noqa: BLE001 it is raised where the future is awaited
            self._answer(future, None, error)
        else:
            self._answer(future, result, None)

    def _answer(self, future: asyncio.Future[T], result: T | None, error: BaseException | None) -> None:
        _call(future, self._resolve, future, result, error)

    def _resolve(self, future: asyncio.Future[T], result: T, error: BaseException | None) -> None:
        self.depth -= 1
        _settle(future, result, error)


GROUP_BYTES_MAX = 3 << 18
"""Bytes of request bodies that one commit takes together: two usual batches. More would be quicker, and LMDB keeps the memory."""


class _Waiting(NamedTuple):
    """A write that waits for its commit, and its size in bytes."""

    request: Request
    future: asyncio.Future[Answer]
    size: int


class WriteLane:
    """One thread that commits all writes that wait as one group. Lives as long as the process; `submit` is called on the event loop.

    Whatever `commit` raises, NoSpace excepted, ends the lane: nobody knows what is on the disk. `on_fatal` is then called once, on the
    lane's thread.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Request]], Sequence[Result]],
        *,
        queue_max: int,
        queue_bytes_max: int,
        on_fatal: Callable[[BaseException], None],
        on_commit: Callable[[int, float], None],
    ) -> None:
        self.depth = 0
        """Writes that wait or are being committed. Changed on the event loop only, as `_bytes`."""
        self._bytes = 0
        self._commit = commit
        self._queue_max = queue_max
        self._queue_bytes_max = queue_bytes_max
        self._on_fatal = on_fatal
        self._on_commit = on_commit
        self._wake = threading.Condition()
        self._waiting: list[_Waiting] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)
        self._thread.start()

    def submit(self, request: Request, size: int) -> asyncio.Future[Answer]:
        """The engine's answer once it is committed, or its EngineError. Raises Busy when the lane is full or closed."""
        if self._closed:
            raise Busy("the service is stopping: nothing was stored, send the request again later")
        if self.depth >= self._queue_max:
            raise Busy(f"the write lane is full: {self._queue_max} writes wait (ISCC_SEARCH_WRITE_QUEUE), send the request again")
        if self.depth and self._bytes + size > self._queue_bytes_max:
            raise Busy(f"the write lane is full: {self._bytes} bytes wait (ISCC_SEARCH_WRITE_QUEUE_BYTES), send the request again")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.depth += 1
        self._bytes += size
        with self._wake:
            self._waiting.append(_Waiting(request, future, size))
            self._wake.notify()
        return future

    def close(self, timeout_s: float) -> bool:
        """No new writes; those that wait are committed. True when the thread has ended."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        return _join([self._thread], timeout_s)

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._closed)
                group = self._next_group()
            if not group:
                return
            try:
                self._commit_group(group)
            except BaseException as error:  # noqa: BLE001 the lane ends, the process with it: nothing is swallowed
                self._fail(group, error)
                return

    def _next_group(self) -> list[_Waiting]:
        """The oldest writes, the first whatever its size: LMDB keeps the memory of the largest commit for good."""
        sizes = accumulate(waiting.size for waiting in self._waiting)
        taken = max(1, sum(1 for size in sizes if size <= GROUP_BYTES_MAX))
        group, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return group

    def _commit_group(self, group: list[_Waiting]) -> None:
        started = time.perf_counter()
        results: Sequence[Result]
        try:
            results = self._commit([waiting.request for waiting in group])
        except NoSpace as error:  # nothing of the group was stored, and the next one may fit
            results = [error] * len(group)
        self._on_commit(len(group), time.perf_counter() - started)
        _call(group[0].future, self._resolve, group, results)

    def _fail(self, group: list[_Waiting], error: BaseException) -> None:
        with self._wake:
            self._closed = True
            group, self._waiting = group + self._waiting, []
        if group:
            _call(group[0].future, self._resolve, group, [error] * len(group))
        self._on_fatal(error)

    def _resolve(self, group: list[_Waiting], results: Sequence[Answer | BaseException]) -> None:
        for waiting, result in zip(group, results, strict=True):
            self.depth -= 1
            self._bytes -= waiting.size
            if isinstance(result, BaseException):
                _settle(waiting.future, None, result)
            else:
                _settle(waiting.future, result, None)


def _call(future: asyncio.Future[Any], callback: Callable[..., None], *args: object) -> None:
    """On the event loop of the future. A loop that has ended has nobody left who waits."""
    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, *args)


def _settle(future: asyncio.Future[T], result: T, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def _join(threads: Sequence[threading.Thread], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)
