"""The rate limit: whom it counts, what it answers, where it counts, what happens when that place is lost."""

from __future__ import annotations

import asyncio
import shutil
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api import ratelimit
from service.api.ratelimit import ForgivingStore, LocalStore
from tests.api.isccs import units
from tests.stores.redis import Redis
from tests.system.client import metrics
from tests.system.server import HOST, Server

needs_redis = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
FAILURES = "tidepool_rate_limit_failures_total"


def search(server: Server, **headers: str) -> httpx.Response:
    return httpx.post(f"{server.url}/indexes/a/search", json={"units": units(1)}, headers=headers, timeout=30)


def statuses(server: Server, count: int, **headers: str) -> list[int]:
    return [search(server, **headers).status_code for _ in range(count)]


def create(server: Server, **headers: str) -> None:
    assert httpx.post(f"{server.url}/indexes", json={"name": "a"}, headers=headers).status_code == 201


def test_searches_are_counted_and_nothing_else(tmp_path: Path) -> None:
    """Beyond the limit 429 with the time to wait and words that name the setting; writes and reads go on; by GET and POST together."""
    with Server(tmp_path / "data", RATE_LIMIT="3/hour") as server:
        create(server)
        assert statuses(server, 2) == [200, 200]
        assert httpx.get(f"{server.url}/indexes/a/search?iscc_code=x").status_code == 400
        refused = search(server)
        assert refused.status_code == 429
        wait = refused.headers["retry-after"]
        assert 0 < int(wait) <= 3600
        text = f"too many searches without the key from this address (ISCC_SEARCH_RATE_LIMIT): send the request again in {wait} seconds"
        assert refused.json() == {"detail": text}
        assert refused.headers["ratelimit-limit"] == "3"
        assert [httpx.get(f"{server.url}{path}").status_code for path in ("/indexes", "/indexes/a", "/status", "/metrics")] == [200] * 4
        assert metrics(server.port)['tidepool_requests_total{method="POST",route="/indexes/{name}/search",status="429"}'] == 1


def test_who_sends_the_key_is_not_counted(tmp_path: Path) -> None:
    """Without the key there is 401, and after some of them 429: whoever guesses keys is slowed down too."""
    with Server(tmp_path / "data", RATE_LIMIT="2/hour", API_SECRET="hush") as server:
        create(server, **{"x-api-key": "hush"})
        assert statuses(server, 3, **{"x-api-key": "guess"}) == [401, 401, 429]
        assert statuses(server, 4, **{"x-api-key": "hush"}) == [200] * 4


def test_behind_a_trusted_proxy_each_client_has_its_own(tmp_path: Path) -> None:
    """The address that the proxy saw; a client cannot choose another one by writing the header itself."""
    with Server(tmp_path / "data", RATE_LIMIT="1/hour", TRUSTED_PROXIES="127.0.0.0/8") as server:
        create(server)
        asked = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "203.0.113.1, 192.0.2.1", "2001:db8::1", "2001:db8::2"]
        found = [search(server, **{"x-forwarded-for": forwarded}).status_code for forwarded in asked]
        assert found == [200, 200, 429, 429, 200, 429]


def test_without_a_limit_nothing_of_it_is_there(tmp_path: Path) -> None:
    """No header, and the modules are not imported."""
    with Server(tmp_path / "data") as server:
        create(server)
        assert [name for name in search(server).headers if name.startswith("ratelimit")] == []


def test_the_local_store_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers out of their time go, and all of them when there are too many: it is a limit, not a ledger."""

    async def run() -> None:
        store = LocalStore()
        monkeypatch.setattr(ratelimit, "CALLERS_MAX", 3)
        await store.set("old", b"1", expires_in=-1)
        for number in range(2):
            await store.set(f"new{number}", b"1", expires_in=60)
        await store.set("new2", b"1", expires_in=60)
        assert [await store.exists(key) for key in ("old", "new0", "new1", "new2")] == [False, True, True, True]
        await store.set("new3", b"1", expires_in=60)
        assert [await store.exists(key) for key in ("new0", "new3")] == [False, True]

    asyncio.run(run())


def test_a_store_that_fails_is_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """Each request that passes is counted; it is told once, without the address of the store, which may hold a password."""

    class Broken(LocalStore):
        asked = 0

        async def get(self, key: str, renew_for: Any = None) -> bytes | None:
            Broken.asked += 1
            raise ConnectionError("redis://:hush@x")

    async def run() -> None:
        failures: list[None] = []
        store = ForgivingStore(Broken(), lambda: failures.append(None))
        assert [await store.get("a") for _ in range(5)] == [None] * 5
        await store.set("a", b"1", 60)
        assert (Broken.asked, len(failures)) == (1, 6)

    asyncio.run(run())
    assert [record.message for record in caplog.records] == [
        "the store of the rate limit cannot be used, searches pass uncounted: ConnectionError"
    ]


@needs_redis
def test_two_instances_share_one_limit_with_redis(tmp_path: Path) -> None:
    """Together they let through what one would."""
    with Redis() as redis:
        shared = {"RATE_LIMIT": "4/hour", "RATE_LIMIT_STORE": "redis", "RATE_LIMIT_REDIS_URL": redis.url}
        with Server(tmp_path / "one", **shared) as one, Server(tmp_path / "two", **shared) as two:
            create(one)
            create(two)
            found = [search(server).status_code for _ in range(4) for server in (one, two)]
            assert found == [200] * 4 + [429] * 4


def test_two_instances_have_twice_the_limit_by_themselves(tmp_path: Path) -> None:
    """Each counts in its own memory."""
    with Server(tmp_path / "one", RATE_LIMIT="4/hour") as one, Server(tmp_path / "two", RATE_LIMIT="4/hour") as two:
        create(one)
        create(two)
        assert [search(server).status_code for _ in range(4) for server in (one, two)] == [200] * 8
        assert [search(server).status_code for server in (one, two)] == [429, 429]


@needs_redis
def test_a_lost_redis_lets_searches_pass(tmp_path: Path) -> None:
    """Uncounted, in a metric and once in the log; nothing crashes. When it is back, it counts again."""
    with Redis() as redis:
        shared = {"RATE_LIMIT": "2/hour", "RATE_LIMIT_STORE": "redis", "RATE_LIMIT_REDIS_URL": redis.url}
        with Server(tmp_path / "data", **shared) as server:
            create(server)
            assert statuses(server, 3) == [200, 200, 429]
            redis.stop()
            assert statuses(server, 10) == [200] * 10
            assert metrics(server.port)[FAILURES] >= 10
            assert server.log().count("searches pass uncounted") == 1
            redis.start()
            found = 200
            for _ in range(2000):
                found = search(server).status_code
                if found == 429:
                    break
            assert found == 429
            assert "Traceback" not in server.log()
            assert redis.url not in server.log()


def test_a_redis_that_hangs_costs_a_moment(tmp_path: Path) -> None:
    """It accepts and never answers: searches pass after the timeout, and then without asking it."""
    with socket.create_server((HOST, 0)) as silent:
        url = f"redis://{HOST}:{silent.getsockname()[1]}/0"
        shared = {"RATE_LIMIT": "1/hour", "RATE_LIMIT_STORE": "redis", "RATE_LIMIT_REDIS_URL": url}
        with Server(tmp_path / "data", **shared) as server:
            create(server)
            assert statuses(server, 20) == [200] * 20
            assert metrics(server.port)[FAILURES] >= 20
