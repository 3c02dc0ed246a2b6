"""Faults by chance between a service and its store, on top of `tests.stores.faulty`: what a bad network and a busy store do at once."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

from tests.stores.faulty import Answer, Fault, Faulty, Request, answer, cut, late, lost, reset

METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
TRICKLE_PAUSE_S = 0.02
TRICKLES = 8
SLOW_DOWN = answer(503, "SlowDown")


class Chaos:
    """Lives as long as the proxy. Each request has a fault with the probability `share` while it is `on`. `done` counts them."""

    def __init__(self, faulty: Faulty, seed: int, share: float, *, slow: bool) -> None:
        self.on = False
        self.done: Counter[str] = Counter()
        self._share = share
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._seen = faulty.seen
        named: dict[str, Fault] = {"slow down": SLOW_DOWN, "reset": reset, "lost": lost, "cut": cut, "trickle": trickle, "flip": self._flip}
        if slow:
            named["late"] = late
        self._faults = list(named.items())
        for method in METHODS:
            faulty.always(method, self._act)

    def _act(self, request: Request) -> None:
        with self._lock:
            self._seen.clear()  # minutes of bodies
            name, fault = self._rng.choice(self._faults) if self.on and self._rng.random() < self._share else ("none", pass_on)
            self.done[name] += 1
        fault(request)

    def _flip(self, request: Request) -> None:
        """One bit of the body; no body has none to flip."""
        found = request.pass_on()
        body = bytearray(found.body)
        if body:
            with self._lock:
                body[self._rng.randrange(len(body))] ^= 1 << self._rng.randrange(8)
        request.reply(Answer(found.status, found.headers, bytes(body)))


def pass_on(request: Request) -> None:
    request.reply(request.pass_on())


def trickle(request: Request) -> None:
    """The answer comes in small pieces, with pauses."""
    found = request.pass_on()
    length = [] if request.method == "HEAD" or found.status == 204 else [("Content-Length", str(len(found.body)))]
    request.reply(Answer(found.status, [*found.headers, *length], b""))
    size = max(1, -(-len(found.body) // TRICKLES))
    for start in range(0, len(found.body), size):
        threading.Event().wait(TRICKLE_PAUSE_S)
        request.send(found.body[start : start + size])


class Counted:
    """Counts requests by method, and passes them on; `gate` may hold them."""

    def __init__(self, faulty: Faulty, gate: Callable[[Request], None] | None = None) -> None:
        self.methods: Counter[str] = Counter()
        self.paths: list[str] = []
        self._gate = gate
        for method in METHODS:
            faulty.always(method, self._act)

    def _act(self, request: Request) -> None:
        self.methods[request.method] += 1
        self.paths.append(request.path)
        if self._gate is not None:
            self._gate(request)
        pass_on(request)
