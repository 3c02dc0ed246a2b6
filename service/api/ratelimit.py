"""The rate limit for searches without the key: Litestar's middleware, a name for each caller, and where requests are counted.

Imported only when a limit is set. The count of one caller is a list of seconds, so a limit of 10,000 costs some 100 kB for each caller
that reaches it; CALLERS_MAX bounds their number. With `redis` two instances may let a few more through when they count at the same moment.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import msgspec
from litestar import Request
from litestar.middleware.rate_limit import DURATION_VALUES, DurationUnit, RateLimitConfig
from litestar.stores.base import Store
from litestar.stores.memory import MemoryStore

from service.api.callers import Callers
from service.logs import logger

STORE = "rate_limit"
CALLERS_MAX = 20_000
PAUSE_S = 5.0
"""So long a store that failed is not asked."""
TOLD_S = 60.0


class Limited(msgspec.Struct, frozen=True):
    """Settings of the same names."""

    rate_limit: tuple[int, str]
    rate_limit_redis_url: str
    """Empty: counted in this process."""
    trusted_proxies: tuple[str, ...]


def config(limited: Limited, secret: str | None) -> RateLimitConfig:
    """For the routes of search. Whoever sends the right key is not counted."""
    count, unit = limited.rate_limit
    callers = Callers(limited.trusted_proxies)
    expected = None if secret is None else secret.encode()

    async def is_anonymous(request: Request[Any, Any, Any]) -> bool:
        sent = next((value for name, value in request.scope["headers"] if name == b"x-api-key"), b"")
        return expected is None or not hmac.compare_digest(sent, expected)

    return RateLimitConfig(
        rate_limit=(cast("DurationUnit", unit), count),
        identifier_for_request=lambda request: callers.name(request.scope),
        check_throttle_handler=is_anonymous,
        store=STORE,
    )


def store(limited: Limited, on_failure: Callable[[], None]) -> Store:
    """Where requests are counted."""
    if not limited.rate_limit_redis_url:
        return LocalStore()
    from service.api.sharedstore import connect

    return ForgivingStore(connect(limited.rate_limit_redis_url), on_failure)


class LocalStore(MemoryStore):
    """In this process. Forgets callers that are out of their time, and all of them when there are too many."""

    __slots__ = ("_tidied_at",)

    def __init__(self) -> None:
        super().__init__()
        self._tidied_at = time.monotonic()

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        full = len(self._store) >= CALLERS_MAX
        if full or time.monotonic() > self._tidied_at + DURATION_VALUES["minute"]:
            self._tidied_at = time.monotonic()
            await self.delete_expired()
        if len(self._store) >= CALLERS_MAX:
            await self.delete_all()
        await super().set(key, value, expires_in)


class ForgivingStore(Store):
    """In front of a store that may be lost: then requests pass, uncounted. Told once a minute, and by the metric each time."""

    def __init__(self, inner: Store, on_failure: Callable[[], None]) -> None:
        self._inner = inner
        self._on_failure = on_failure
        self._asked_again_at = 0.0
        self._told_again_at = 0.0

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        if self._is_lost():
            return None
        try:
            return await self._inner.get(key, renew_for)
        except Exception as error:  # noqa: BLE001 - whatever a client of a lost server raises; counted and told
            self._lose(error)
            return None

    async def set(self, key: str, value: str | bytes, expires_in: int | timedelta | None = None) -> None:
        if self._is_lost():
            return
        try:
            await self._inner.set(key, value, expires_in)
        except Exception as error:  # noqa: BLE001 - as above
            self._lose(error)

    async def delete(self, key: str) -> None:
        await self._inner.delete(key)

    async def delete_all(self) -> None:
        await self._inner.delete_all()

    async def exists(self, key: str) -> bool:
        return await self._inner.exists(key)

    async def expires_in(self, key: str) -> int | None:
        return await self._inner.expires_in(key)

    def _is_lost(self) -> bool:
        """While it is, each request that passes counts as a failure."""
        lost = time.monotonic() < self._asked_again_at
        if lost:
            self._on_failure()
        return lost

    def _lose(self, error: Exception) -> None:
        now = time.monotonic()
        self._asked_again_at = now + PAUSE_S
        self._on_failure()
        if now >= self._told_again_at:
            self._told_again_at = now + TOLD_S
            logger.warning("the store of the rate limit cannot be used, searches pass uncounted: %s", type(error).__name__)
