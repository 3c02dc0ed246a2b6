"""Routes for probes and people who look after the service. None of them waits for the engine."""

from __future__ import annotations

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler

from service import __version__
from service.api.access import Access, State, Switches
from service.api.errors import SwitchedOff
from service.api.reply import Reply, json_reply, typed_reply
from service.api.schema import Health, Readiness, Status
from service.meter import CONTENT_TYPE


def routes(access: Access, switches: Switches) -> list[HTTPRouteHandler]:
    alive = msgspec.json.encode(Health("ok"))

    @get("/healthz")
    async def healthz() -> Reply:
        return json_reply(200, alive)

    @get("/readyz")
    async def readyz() -> Reply:
        state = access.state
        if state.name == "ready":
            return json_reply(200, msgspec.json.encode(Readiness("ready")))
        return json_reply(503, msgspec.json.encode(_not_ready(state)), {"retry-after": "2"})

    @get("/status")
    async def status() -> Reply:
        state = access.state
        snapshots = access.snapshots.status() if access.snapshots is not None else None
        return json_reply(200, msgspec.json.encode(Status(__version__, "normal", None, state.name, state.reason, snapshots)))

    @get("/metrics")
    async def metrics() -> Reply:
        if not switches.metrics:
            raise SwitchedOff("METRICS")
        return typed_reply(200, CONTENT_TYPE, await access.metrics())

    return [healthz, readyz, status, metrics]


def _not_ready(state: State) -> Readiness:
    told = Readiness("not_ready", state.name, state.reason)
    if not state.phase:
        return told
    figures = {"phase": state.phase, "bytes_done": state.bytes_done, "bytes_total": state.bytes_total, "eta_s": state.eta_s}
    return msgspec.structs.replace(told, **figures)
