"""The cap on requests and the limit of their time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.api.admission import Admission, Bounds
from service.engine.requests import CreateIndex
from tests.api.inside import opened
from tests.system.server import wait_until

App = Callable[[Any, Any, Any], Awaitable[None]]
BOUNDS = Bounds(max_requests=2, request_seconds=1)


class Slow:
    """An application that answers when it is told to."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.running = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.running += 1
        try:
            if scope["method"] == "POST":
                while (await receive())["more_body"]:
                    pass
            await self.go.wait()
        finally:
            self.running -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}", "more_body": False})


async def ask(app: App, method: str, path: str, *pieces: bytes, pause_s: float = 0) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of the answer. Each piece of the body comes after a pause."""
    sent: list[Any] = []
    left = list(pieces)

    async def receive() -> Any:
        await asyncio.sleep(pause_s)
        piece = left.pop(0) if left else b""
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_beyond_the_cap_is_503_and_probes_always_pass() -> None:
    """The answer names the setting and says when to come again; when one is done there is room."""

    async def run() -> None:
        slow = Slow()
        app = Admission(slow, Bounds(max_requests=2, request_seconds=60))
        waiting = [asyncio.create_task(ask(app, "GET", f"/{number}")) for number in range(2)]
        while slow.running < 2:
            await asyncio.sleep(0)
        status, headers, body = await ask(app, "GET", "/indexes")
        assert (status, headers[b"retry-after"]) == (503, b"1")
        text = b"2 requests are answered already (ISCC_SEARCH_MAX_REQUESTS): nothing was done, send the request again"
        assert body == b'{"detail":"' + text + b'"}'
        probes = [asyncio.create_task(ask(app, "GET", path)) for path in ("/healthz", "/readyz", "/metrics")]
        while slow.running < 5:
            await asyncio.sleep(0)
        slow.go.set()
        assert [found[0] for found in await asyncio.gather(*waiting, *probes)] == [200] * 5
        assert (await ask(app, "GET", "/indexes"))[0] == 200

    asyncio.run(run())


def test_an_answer_that_takes_too_long_is_503() -> None:
    """The place is free again. Of a write the answer says that it may still happen; what asks the bucket is not limited."""

    async def run() -> None:
        slow = Slow()
        app = Admission(slow, BOUNDS)
        patient = asyncio.create_task(ask(app, "POST", "/snapshots", b""))
        late, write = await asyncio.gather(ask(app, "GET", "/indexes"), ask(Admission(slow, BOUNDS), "POST", "/indexes", b"{}"))
        assert (late[0], write[0], write[1][b"retry-after"]) == (503, 503, b"1")
        assert late[2] == b'{"detail":"the answer took longer than 1 seconds (ISCC_SEARCH_REQUEST_SECONDS): send the request again later"}'
        assert b"a write may still happen" in write[2]
        assert slow.running == 1
        slow.go.set()
        assert (await patient)[0] == 200

    asyncio.run(run())


def test_a_body_that_comes_slowly_has_its_own_limit() -> None:
    """The clock of the request begins when the body is complete."""

    async def run() -> None:
        slow = Slow()
        slow.go.set()
        app = Admission(slow, BOUNDS)
        assert (await ask(app, "POST", "/indexes", b"{", b"}", b" ", pause_s=0.6))[0] == 200

    asyncio.run(run())


def test_an_error_of_the_application_is_not_taken_for_the_limit() -> None:
    """A TimeoutError of something else goes on its way."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise TimeoutError("another one")

    async def run() -> None:
        with pytest.raises(TimeoutError, match="another one"):
            await ask(Admission(broken, BOUNDS), "GET", "/")

    asyncio.run(run())


def test_a_write_that_was_late_may_still_happen(tmp_path: Path) -> None:
    """As the answer says: the commit goes on, and the index is there afterwards."""

    async def run() -> None:
        async with opened(tmp_path / "data", REQUEST_SECONDS=1) as (boot, client):
            engine = boot._engine  # what is held is the real engine: a disk that is slow
            assert engine is not None
            with engine._writing:
                late = await client.post("/indexes", json={"name": "a"})
                assert (late.status_code, "may still happen" in late.json()["detail"]) == (503, True)
                assert (await client.get("/indexes")).json() == []
            await asyncio.to_thread(wait_until, lambda: len(engine.indexes()) == 1, 30, "the write")
            assert [found["name"] for found in (await client.get("/indexes")).json()] == ["a"]
            assert await boot.write(CreateIndex("b"), 1) is None

    asyncio.run(run())


def test_cap_and_count_are_metrics(tmp_path: Path) -> None:
    """So that an alert can be a ratio."""

    async def run() -> None:
        async with opened(tmp_path / "data", MAX_REQUESTS=7) as (_, client):
            text = (await client.get("/metrics")).text
            assert "tidepool_requests_limit 7.0" in text
            assert "tidepool_requests_in_flight 1.0" in text

    asyncio.run(run())


def test_a_refusal_can_be_read_by_a_page(tmp_path: Path) -> None:
    """A 503 of the cap has the headers of cross-origin answers like any other."""

    async def run() -> None:
        async with opened(tmp_path / "data", MAX_REQUESTS=1, REQUEST_SECONDS=30) as (boot, client):
            engine = boot._engine
            assert engine is not None
            with engine._writing:
                held = asyncio.create_task(client.post("/indexes", json={"name": "a"}))
                await asyncio.to_thread(wait_until, lambda: boot._lane_depths()["write"] == 1, 30, "the write to wait")
                refused = await client.get("/status", headers={"origin": "https://a.example"})
                assert refused.status_code == 503
                assert refused.headers["access-control-allow-origin"] == "*"
                assert "retry-after" in refused.headers["access-control-expose-headers"]
            assert (await held).status_code == 201

    asyncio.run(run())
