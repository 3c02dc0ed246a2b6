"""The load generator: a process of its own that sends ready-made requests over kept-open connections and measures each.

It does as little as it can between two requests (no HTTP library, no JSON), so that on two cores the server is what is measured;
its own CPU time is part of the result. `python -m bench.load PLAN` prints a Result as JSON.
"""

from __future__ import annotations

import asyncio
import mmap
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import uvloop

from bench.cpu import others_share, used
from bench.wire import ends_path


class Plan(msgspec.Struct, frozen=True):
    """With `cycle`, requests are repeated until `seconds` are over; without, each is sent once, and none is begun after `seconds`."""

    requests: str
    port: int
    server: int  # process id
    connections: int
    seconds: float
    cycle: bool
    bodies: str | None = None  # where answers go, in the order of the requests
    latencies: str | None = None


class Result(msgspec.Struct, frozen=True):
    requests: int
    elapsed_s: float
    p50_ms: float
    p99_ms: float
    generator_cpu_s: float
    server_cpu_s: float
    others_share: float  # of the processor time of the machine


class Feed:
    """The requests and what came of them. Lives as long as the process, on the event loop."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        with Path(plan.requests).open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.ends: list[int] = np.load(ends_path(Path(plan.requests))).tolist()
        self.sent = 0
        self.latencies: list[float] = []
        self.bodies: list[bytes] = [b""] * len(self.ends)
        self.deadline = 0.0

    def next(self) -> int:
        """The number of the next request, or -1 at the end."""
        if time.perf_counter() >= self.deadline or (not self.plan.cycle and self.sent >= len(self.ends)):
            return -1
        number = self.sent % len(self.ends)
        self.sent += 1
        return number

    def request(self, number: int) -> bytes:
        return self.data[self.ends[number - 1] if number else 0 : self.ends[number]]

    def answered(self, number: int, seconds: float, body: bytes) -> None:
        self.latencies.append(seconds)
        if self.plan.bodies is not None:
            self.bodies[number] = body


class Connection(asyncio.Protocol):
    """One connection that sends its next request when the answer to the last is complete."""

    def __init__(self, feed: Feed, finished: Callable[[Exception | None], None]) -> None:
        self.feed, self.finished = feed, finished
        self.number, self.sent_at, self.done = 0, 0.0, False
        self.buffer = b""

    def begin(self, transport: asyncio.WriteTransport) -> None:
        self.transport = transport
        self._send()

    def _send(self) -> None:
        self.number = self.feed.next()
        if self.number < 0:
            self._finish(None)
            return
        data = self.feed.request(self.number)
        self.sent_at = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        body = _whole_body(self.buffer)
        if body is None:
            return
        self.feed.answered(self.number, time.perf_counter() - self.sent_at, body)
        status = self.buffer[9:12]
        self.buffer = b""
        if status[:1] == b"2":
            self._send()
        else:
            self._finish(RuntimeError(f"request refused status={status.decode()} body={body[:300]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish(exc or ConnectionError("the server closed the connection"))

    def _finish(self, error: Exception | None) -> None:
        if not self.done:
            self.done = True
            self.finished(error)
            self.transport.close()


def _whole_body(data: bytes) -> bytes | None:
    """The body of one whole answer, or None while something is missing."""
    head_end = data.find(b"\r\n\r\n")
    if head_end < 0:
        return None
    head = data[:head_end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise RuntimeError(f"answer without content-length head={head!r}")
    line_end = head.find(b"\r\n", at + 2)
    length = int(head[at + 17 : line_end if line_end >= 0 else None])
    start = head_end + 4
    return data[start : start + length] if len(data) >= start + length else None


async def run(plan: Plan) -> Result:
    feed, loop = Feed(plan), asyncio.get_running_loop()
    outcomes: list[asyncio.Future[None]] = [loop.create_future() for _ in range(plan.connections)]
    opened = [await _open(feed, outcome, plan.port) for outcome in outcomes]
    before, started = used(plan.server), time.perf_counter()
    feed.deadline = started + plan.seconds
    for connection, transport in opened:
        connection.begin(transport)
    await asyncio.gather(*outcomes)
    elapsed, after = time.perf_counter() - started, used(plan.server)
    _store(feed)
    p50, p99 = np.percentile(np.array(feed.latencies) * 1000, [50, 99]).tolist()
    share = others_share(before, after, elapsed)
    return Result(len(feed.latencies), elapsed, p50, p99, after.own - before.own, after.server - before.server, share)


async def _open(feed: Feed, outcome: asyncio.Future[None], port: int) -> tuple[Connection, asyncio.WriteTransport]:
    def finished(error: Exception | None) -> None:
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    transport, connection = await asyncio.get_running_loop().create_connection(lambda: Connection(feed, finished), "127.0.0.1", port)
    return connection, transport


def _store(feed: Feed) -> None:
    if feed.plan.bodies is not None:
        Path(feed.plan.bodies).write_bytes(msgspec.msgpack.encode(feed.bodies))
    if feed.plan.latencies is not None:
        np.save(feed.plan.latencies, np.array(feed.latencies))


if __name__ == "__main__":
    plan = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Plan)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(msgspec.json.encode(runner.run(run(plan))).decode())
