"""Lanes: bounded, in order, one group for all that wait, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

import pytest

from service.engine.errors import Busy, Conflict, EngineError, Fatal, NoSpace
from service.engine.requests import Answer, CreateIndex, Request
from service.lanes import ReadLane, WriteLane

WAIT_S = 10.0


class Commits:
    """A committing side that can be held, and remembers its groups."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.error: BaseException | None = None

    def __call__(self, requests: Sequence[Request]) -> list[Answer | EngineError]:
        self.started.release()
        assert self.go.acquire(timeout=WAIT_S)
        self.groups.append([name_of(request) for request in requests])
        if self.error is not None:
            raise self.error
        return [Conflict("taken") if name_of(request) == "taken" else None for request in requests]


def name_of(request: Request) -> str:
    assert isinstance(request, CreateIndex)
    return request.name


def write_lane(
    commits: Commits, *, queue_max: int = 100, bytes_max: int = 1000, on_fatal: Callable[[BaseException], None] = print
) -> WriteLane:
    return WriteLane(commits, queue_max=queue_max, queue_bytes_max=bytes_max, on_fatal=on_fatal, on_commit=lambda *_: None)


async def held(commits: Commits) -> None:
    """Returns when the lane is in the middle of a commit."""
    assert await asyncio.to_thread(commits.started.acquire, timeout=WAIT_S)


def test_reads_return_what_the_job_returns_or_raises() -> None:
    """Results and errors come back where they are awaited."""

    async def case() -> None:
        lane = ReadLane(2, 10)
        assert await lane.run(lambda: 5) == 5
        with pytest.raises(Conflict, match="x"):
            await lane.run(fail)
        assert lane.depth == 0
        assert lane.close(WAIT_S)

    def fail() -> None:
        raise Conflict("x")

    asyncio.run(case())


def test_a_full_read_lane_refuses_at_once() -> None:
    """What does not fit is refused with the limit and its setting; room that becomes free is used."""

    async def case() -> None:
        lane = ReadLane(1, 2)
        gate = threading.Event()
        waiting = [lane.run(lambda: gate.wait(WAIT_S)) for _ in range(3)]
        with pytest.raises(Busy, match=r"2 requests wait \(ISCC_SEARCH_READ_QUEUE\)"):
            lane.run(lambda: 1)
        gate.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        assert await lane.run(lambda: 1) == 1
        assert lane.close(WAIT_S)

    asyncio.run(case())


def test_a_closed_read_lane_finishes_what_waits() -> None:
    """Jobs that were accepted are done; later ones are refused."""

    async def case() -> None:
        lane = ReadLane(1, 10)
        waiting = [lane.run(lambda: 1) for _ in range(5)]
        assert await asyncio.to_thread(lane.close, WAIT_S)
        with pytest.raises(Busy, match="stopping"):
            lane.run(lambda: 1)
        assert await asyncio.gather(*waiting) == [1] * 5

    asyncio.run(case())


def test_a_job_that_hangs_does_not_hang_the_close() -> None:
    """Closing gives up when its time is over, and says so."""

    async def case() -> None:
        lane = ReadLane(1, 10)
        gate = threading.Event()
        hanging = lane.run(gate.wait)
        assert not lane.close(0.01)
        gate.set()
        assert await hanging

    asyncio.run(case())


def test_all_writes_that_wait_share_a_commit() -> None:
    """Writes that come during a commit are the next group, in their order."""

    async def case() -> None:
        commits = Commits()
        lane = write_lane(commits)
        first = lane.submit(CreateIndex("a"), 1)
        await held(commits)
        others = [lane.submit(CreateIndex(name), 1) for name in ("b", "taken", "c")]
        commits.go.release(2)
        results = await asyncio.gather(first, *others, return_exceptions=True)
        assert commits.groups == [["a"], ["b", "taken", "c"]]
        assert [type(result) for result in results] == [type(None), type(None), Conflict, type(None)]
        assert (lane.depth, lane.close(WAIT_S)) == (0, True)

    asyncio.run(case())


def test_a_full_write_lane_refuses_at_once() -> None:
    """The limits on writes and on bytes are told with their settings; one large write alone is accepted."""

    async def case() -> None:
        commits = Commits()
        lane = write_lane(commits, queue_max=2, bytes_max=100)
        large = lane.submit(CreateIndex("large"), 5000)
        await held(commits)
        with pytest.raises(Busy, match="ISCC_SEARCH_WRITE_QUEUE_BYTES"):
            lane.submit(CreateIndex("b"), 1)
        commits.go.release()
        await large
        small = [lane.submit(CreateIndex(name), 1) for name in ("c", "d")]
        with pytest.raises(Busy, match=r"2 writes wait \(ISCC_SEARCH_WRITE_QUEUE\)"):
            lane.submit(CreateIndex("e"), 1)
        commits.go.release(2)
        await asyncio.gather(*small)
        assert lane.close(WAIT_S)

    asyncio.run(case())


def test_a_closed_write_lane_commits_what_waits() -> None:
    """Accepted writes are committed before the thread ends; later ones are refused."""

    async def case() -> None:
        commits = Commits()
        lane = write_lane(commits)
        waiting = [lane.submit(CreateIndex(name), 1) for name in ("a", "b")]
        commits.go.release(10)
        assert await asyncio.to_thread(lane.close, WAIT_S)
        with pytest.raises(Busy, match="stopping"):
            lane.submit(CreateIndex("c"), 1)
        assert await asyncio.gather(*waiting) == [None, None]

    asyncio.run(case())


def test_a_full_disk_refuses_a_group_and_no_more() -> None:
    """Every write of the group is told, and the next group is tried."""

    async def case() -> None:
        commits = Commits()
        lane = write_lane(commits)
        commits.error = NoSpace("full")
        commits.go.release()
        with pytest.raises(NoSpace, match="full"):
            await lane.submit(CreateIndex("a"), 1)
        commits.error = None
        commits.go.release()
        assert await lane.submit(CreateIndex("b"), 1) is None
        assert lane.close(WAIT_S)

    asyncio.run(case())


@pytest.mark.parametrize("error", [Fatal("disk"), KeyError("defect")])
def test_an_error_of_a_commit_ends_the_lane(error: BaseException) -> None:
    """Everybody who waits gets the error, nothing is committed any more, and the process is told once."""

    async def case() -> None:
        commits = Commits()
        commits.error = error
        told: list[BaseException] = []
        lane = write_lane(commits, on_fatal=told.append)
        first = lane.submit(CreateIndex("a"), 1)
        await held(commits)
        second = lane.submit(CreateIndex("b"), 1)
        commits.go.release()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [result is error for result in results] == [True, True]
        assert await asyncio.to_thread(lane.close, WAIT_S)
        assert (told, commits.groups) == ([error], [["a"]])
        with pytest.raises(Busy):
            lane.submit(CreateIndex("c"), 1)

    asyncio.run(case())
