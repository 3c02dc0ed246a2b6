"""Snapshots as the interface asks for them. Whatever asks the bucket runs on threads of its own: it may take seconds, or minutes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from service.api.errors import NotOwner
from service.api.schema_snapshots import (
    SnapshotCreated,
    SnapshotDetail,
    SnapshotDrill,
    SnapshotGeneration,
    SnapshotStatus,
)
from service.boot.bodies import created_body, detail_body, generation_body
from service.boot.figures import Running, shown_drill
from service.engine.errors import Busy, Conflict, Damaged, EngineError, NoSpace, NotFound
from snapshots.errors import Corrupt, Fenced, Missing, NoRoom, SnapshotError
from snapshots.history import generations
from snapshots.prefix import Prefix

T = TypeVar("T")

LISTINGS_MAX = 4
"""Listings at a time: each reads all manifests."""
CREATE, DRILL, LIST = "create", "drill", "list"
MEANINGS: dict[type[SnapshotError], type[EngineError | NotOwner]] = {
    Missing: NotFound,
    Corrupt: Damaged,
    Fenced: NotOwner,
    NoRoom: NoSpace,
}
"""Errors of snapshots as the interface knows errors. All others mean: not now."""


class Front:
    """What `service.api.access.Snapshots` describes. Lives as long as the process; event loop only.

    `running` and `trouble` come from the boot: what there is once the bucket is claimed, and why it is not.
    """

    def __init__(self, running: Callable[[], Running | None], trouble: Callable[[], str], status: Callable[[], SnapshotStatus]) -> None:
        self._running = running
        self._trouble = trouble
        self._status = status
        self._threads = ThreadPoolExecutor(LISTINGS_MAX + 2, "snapshots")
        self._errands = dict.fromkeys((CREATE, DRILL, LIST), 0)
        """How many of each kind somebody waits for."""

    def close(self) -> None:
        """What runs is not waited for: it fails or ends by itself, and leaves nothing that a start does not clean up."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def status(self) -> SnapshotStatus:
        return self._status()

    def generations(self) -> Awaitable[list[SnapshotGeneration]]:
        return self._list(partial(_generations, self._claimed().keeper.prefix))

    def generation(self, number: int) -> Awaitable[SnapshotDetail]:
        return self._list(partial(_generation, self._claimed().keeper.prefix, number))

    def create(self) -> Awaitable[SnapshotCreated]:
        keeper = self._claimed().keeper
        if self._errands[CREATE] or keeper.busy:
            raise Busy("a checkpoint is made or the bucket is pruned at this moment: send the request again later")
        return self._run(CREATE, lambda: created_body(keeper.checkpoint()))

    def drill(self) -> Awaitable[SnapshotDrill]:
        chores = self._claimed().chores
        if self._errands[DRILL] or chores.drilling:
            raise Conflict("a drill runs already: /snapshots/status shows what the last one found")
        return self._run(DRILL, lambda: shown_drill(chores.drill()))

    def _claimed(self) -> Running:
        running = self._running()
        if running is None:
            raise Busy(f"this process does not own the bucket yet: {self._trouble()}; send the request again later")
        return running

    def _list(self, job: Callable[[], T]) -> Awaitable[T]:
        if self._errands[LIST] >= LISTINGS_MAX:
            raise Busy(f"{LISTINGS_MAX} listings of the bucket run already: send the request again")
        return self._run(LIST, job)

    async def _run(self, kind: str, job: Callable[[], T]) -> T:
        self._errands[kind] += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, job)
        except SnapshotError as error:
            raise _meaning(error) from error
        finally:
            self._errands[kind] -= 1


def _meaning(error: SnapshotError) -> EngineError | NotOwner:
    for kind in type(error).__mro__:
        if kind in MEANINGS:
            return MEANINGS[kind](str(error))
    return Busy(f"the bucket cannot be used now: {error}; send the request again later")


def _generations(prefix: Prefix) -> list[SnapshotGeneration]:
    return [generation_body(each) for each in generations(prefix, _now_us())]


def _generation(prefix: Prefix, number: int) -> SnapshotDetail:
    found = next((each for each in generations(prefix, _now_us()) if each.generation == number), None)
    if found is None:
        raise NotFound(f"{prefix.bucket.url} has no generation {number}: it never had, or it was pruned")
    return detail_body(found, prefix.manifest(number))


def _now_us() -> int:
    return time.time_ns() // 1000
