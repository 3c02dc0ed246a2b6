"""The application in this process, for states that a child process cannot be held in: every request goes through the real layers."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from service.app import create_app
from service.boot.life import Boot
from service.settings import Settings, load
from service.telemetry import Metrics
from tests.system.server import wait_until

OPENING_S = 30.0


def settings(directory: Path, **values: object) -> Settings:
    """Settings of a service with its data in `directory`."""
    given = {f"ISCC_SEARCH_{name}": str(value) for name, value in {"INDEX_URI": directory, **values}.items()}
    return load(given, Path("/nonexistent/.env"))[0]


@contextlib.asynccontextmanager
async def opened(directory: Path, **values: object) -> AsyncIterator[tuple[Boot, httpx.AsyncClient]]:
    """A ready service and a client of it; closed at the end."""
    async with started(directory, **values) as (boot, client):
        assert boot.start(OPENING_S) is None
        wait_until(lambda: boot.state.name == "ready", OPENING_S, "the service to be ready")
        yield boot, client


@contextlib.asynccontextmanager
async def started(directory: Path, **values: object) -> AsyncIterator[tuple[Boot, httpx.AsyncClient]]:
    """A service that has not begun to open, and a client of it."""
    metrics = Metrics()
    bounds = settings(directory, **values)
    boot = Boot(bounds, metrics)
    transport = httpx.ASGITransport(create_app(boot, metrics, bounds))  # type: ignore[arg-type]  # the same protocol by other names
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://inside", timeout=30) as client:
            yield boot, client
    finally:
        assert boot.close(OPENING_S)
