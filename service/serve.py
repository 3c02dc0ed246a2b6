"""The server: one process, one event loop, Granian embedded in it, and what happens from the command to the exit code.

The signals are ours. SIGTERM and SIGINT stop in order, see `service.boot.stopping`; further ones change nothing. Everything together has
one budget, so a client that never finishes its request costs nothing but its own answer.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from service import __version__
from service.app import create_app
from service.boot.exits import EXIT_FAILED, End
from service.boot.failing import arm_all
from service.boot.life import Boot
from service.boot.stopping import REPORTS_S, Budget, phase, reports_s
from service.configuration.rules import is_loopback
from service.logs import RequestLog, event, logger
from service.meter import Meter, make
from service.reporting import Reporter, reporters
from service.settings import Settings, process_failpoints

OPENING_PATIENCE_S = 1.0
"""So long the port waits for the data directory: most faults are found before anything is served."""
SWITCH_INTERVAL_S = 0.001
"""How long a thread may keep the interpreter from the event loop. Python's 5 ms make probes wait when all lanes are busy."""
STACK_BYTES = 2 << 20
"""Of each thread. The system's 8 MB are never touched, but count where the memory that a process may ask for is limited."""
KEPT_BYTES = 1 << 18
"""What is larger goes back to the system as soon as it is free. By itself the C library soon keeps up to 64 MB."""
ARENAS = 2
"""Heaps that threads share. By itself the C library gives each thread its own, up to eight for a processor, and what is free in one serves
no other; the interpreter's lock lets few threads want memory at once."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
HEADER_READ_MS = 10_000
BACKLOG = 1024


def serve(settings: Settings, *, adopt: str = "") -> NoReturn:
    """Serves until a signal or a failure, then ends the process with its exit code. `adopt`: see `snapshots.start.Allowed`."""
    try:
        _run(settings, adopt)
    except BaseException as error:  # noqa: BLE001 - the process ends here, whatever its threads do: nothing is swallowed
        logger.critical("serving failed", exc_info=error)
        leave(End(EXIT_FAILED, f"unexpected {type(error).__name__} while serving: {error}"))


def _run(settings: Settings, adopt: str) -> NoReturn:
    _allow_open_files()
    threading.stack_size(STACK_BYTES)
    _give_back_memory()
    arm_all(process_failpoints())
    early: list[signal.Signals] = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: early.append(signal.Signals(number)))
    metrics = make(switched_on=settings.metrics)
    watches = reporters(settings)
    boot = Boot(settings, metrics, adopt)
    end = boot.start(OPENING_PATIENCE_S)
    if end is None:
        fault = port_fault(settings.host, settings.port)
        end = None if fault is None else End(EXIT_FAILED, fault)
    if end is not None:
        boot.close(settings.drain_seconds)
        close_all(watches)
        leave(end)
    _announce(settings)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(_serve(settings, metrics, boot, early, watches))
    raise AssertionError("serving ends the process")


def _give_back_memory() -> None:
    """Where the C library is glibc, which alone has these settings."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)
        set_option(M_MMAP_THRESHOLD, KEPT_BYTES)
        set_option(M_ARENA_MAX, ARENAS)


def port_fault(host: str, port: int) -> str | None:
    """Why nobody can listen there. The server itself shares ports, so a second one would start without a word."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            advice = "stop the other process, or set ISCC_SEARCH_HOST and ISCC_SEARCH_PORT to a free place"
            return f"cannot listen on {host}:{port}: {error.strerror}; {advice}"
    return None


def limit_end(seconds: float) -> None:
    """Ends the process after so long, whatever hangs: what was acknowledged is on the disk already."""
    late = End(
        EXIT_FAILED, f"stopping took longer than {seconds:g} seconds and was cut short; everything that was acknowledged is on this disk"
    )
    timer = threading.Timer(seconds, leave, (late,))
    timer.daemon = True
    timer.start()


def leave(end: End) -> NoReturn:
    """Ends the process now: a thread that hangs must not keep it."""
    if end.code:
        sys.stderr.write(f"tidepool: {end.reason}\n")
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(end.code)


def close_all(watches: list[Reporter], at_most_s: float = REPORTS_S) -> None:
    """Sends what waits. Whoever receives it may hang: that costs a second, and nothing else."""
    if not watches:
        return
    with phase("reports", at_most_s):
        threads = [threading.Thread(target=watch.close, args=(at_most_s,), daemon=True) for watch in watches]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + at_most_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def _allow_open_files() -> None:
    """As many as the system lets a process have: each segment file takes one, each graph one for each thread."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(settings: Settings, metrics: Meter, boot: Boot, early: list[signal.Signals], watches: list[Reporter]) -> NoReturn:
    """Ends the process while the loop still runs: as long as there is a process, a signal does what it should."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[End] = loop.create_future()
    failing: asyncio.Future[End] = loop.create_future()
    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, _settle, told, End(0, f"received {number.name}"))
    boot.on_end(partial(_call, loop, partial(_settle, failing)))
    app = create_app(boot, metrics, settings, RequestLog(), [watch.note for watch in watches])
    gc.freeze()  # what is there now stays: no later collection needs to look at it
    gc.enable()
    gc.set_threshold(10_000, 20, 20)  # a large answer makes many objects and no cycles: collecting beside it only stops other threads
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_READ_MS),
        websockets=False,
        backlog=BACKLOG,
        log_enabled=False,
    )
    serving = loop.create_task(server.serve())
    if early:
        _settle(told, End(0, f"received {early[0].name}"))
    await asyncio.wait({told, failing, serving}, return_when=asyncio.FIRST_COMPLETED)
    ended = next((future.result() for future in (failing, told) if future.done()), None)
    end = ended or End(EXIT_FAILED, f"the server ended by itself: {serving.exception() or 'it does not say why'}")
    kept_s = reports_s(settings.drain_seconds)
    end = await _stop(settings, boot, server, serving, failing, end, kept_s if watches else 0.0)
    await asyncio.to_thread(close_all, watches, kept_s)
    leave(end)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[End], None], end: End) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, end)


def _settle(future: asyncio.Future[End], end: End) -> None:
    if not future.done():
        future.set_result(end)


async def _stop(
    settings: Settings, boot: Boot, server: Server, serving: asyncio.Task[None], failing: asyncio.Future[End], end: End, kept_s: float
) -> End:
    """All phases but the last, for which `kept_s` are left. A failure cuts the grace short: nobody waits for answers that are errors."""
    started = time.monotonic()
    limit_end(settings.drain_seconds)
    budget = Budget(settings.drain_seconds, settings.drain_grace_seconds)
    served = boot.state.serves
    boot.drain()
    event(logging.INFO, "draining", reason=end.reason, budget_s=settings.drain_seconds)
    if served and budget.grace_s:
        with phase("grace", budget.grace_s):
            until: set[asyncio.Future[Any]] = {failing, serving}
            await asyncio.wait(until, timeout=budget.grace_s, return_when=asyncio.FIRST_COMPLETED)
    server.stop()  # type: ignore[no-untyped-call]  # the library has no annotations
    with phase("requests", budget.requests_s):
        _, unfinished = await asyncio.wait({serving}, timeout=budget.requests_s)
    if unfinished:
        logger.warning("some clients did not finish their requests in time and are cut off")
    closed = await asyncio.to_thread(boot.close, budget.left_s - kept_s)
    event(logging.INFO, "stopped", seconds=round(time.monotonic() - started, 3))
    end = boot.end or end
    if closed or end.code:
        return end
    what = boot.unfinished or "some work did not end in time and was cut short"
    return End(EXIT_FAILED, f"{what}; everything that was acknowledged is on this disk")


def _announce(settings: Settings) -> None:
    event(
        logging.INFO, "starting", version=__version__, address=f"http://{settings.host}:{settings.port}", directory=str(settings.directory)
    )
    if settings.api_secret is None and not is_loopback(settings.host):
        logger.warning(
            "OPEN TO THE NETWORK WITHOUT A KEY: whoever reaches %s:%s may read, change and delete all of it. Set ISCC_SEARCH_API_SECRET",
            settings.host,
            settings.port,
        )
