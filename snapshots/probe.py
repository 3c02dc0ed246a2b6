"""Whether a store keeps what snapshots rely on. It is tried, not asked: several stores answer 200 to a condition and ignore it.

Leaves nothing under `v1/probe/`, unless the store does not delete.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from snapshots.bucket import Bucket
from snapshots.errors import Missing, Refused, SnapshotError, Unreachable
from snapshots.paths import PROBES

RACERS = 16
ROUNDS = 8
BODY_BYTES = 4096
SKEW_MAX_S = 300.0
SECONDS_MAX = 120.0

Item = TypeVar("Item")


class Check(msgspec.Struct, frozen=True):
    """`needed`: a store that fails it cannot hold snapshots. Otherwise it is worth a warning."""

    name: str
    ok: bool
    told: str
    needed: bool = True


class Findings(msgspec.Struct, frozen=True):
    """`skew_s`: by how much the store's clock is ahead of ours, about a second inexact."""

    checks: tuple[Check, ...]
    skew_s: float
    seconds: float

    def refusal(self) -> str | None:
        """Why the store cannot be used, in one sentence; None when it can."""
        return "; ".join(check.told for check in self.checks if check.needed and not check.ok) or None

    def warnings(self) -> list[str]:
        return [check.told for check in self.checks if not check.needed and not check.ok]


def probe(bucket: Bucket, rounds: int = ROUNDS) -> Findings:
    """Takes about two seconds, most of it for the races. Raises Unreachable or Refused when the store does not do what every store does."""
    started = time.monotonic()
    with ThreadPoolExecutor(RACERS, "tidepool-probe") as threads:
        trial = _Trial(bucket, threads)
        with trial.cleaned():
            checks = [trial.creates()]
            steps: list[Callable[[], Check]] = [trial.reads, trial.ranges, trial.lists, trial.replaces, trial.clocks]
            if checks[0].ok:
                steps.append(functools.partial(trial.races, rounds))
            for step in (*steps, trial.deletes):
                if time.monotonic() - started > SECONDS_MAX:
                    raise Unreachable(f"the store is too slow to be tried bucket={bucket.url} seconds={SECONDS_MAX:.0f}")
                checks.append(step())
    return Findings(tuple(checks), trial.skew_s, time.monotonic() - started)


class _Trial:
    """One probe: a name that nobody else uses, and the objects made under it."""

    def __init__(self, bucket: Bucket, threads: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._threads = threads
        self._name = f"{PROBES}{secrets.token_hex(8)}"
        self._key = f"{self._name}-object"
        self._body = os.urandom(BODY_BYTES)
        self._made = [self._key]
        self.skew_s = 0.0

    def creates(self) -> Check:
        first = self._bucket.create(self._key, self._body)
        stored_s = time.time()
        second = self._bucket.create(self._key, self._body[::-1])
        entry = self._bucket.head(self._key)
        self.skew_s = entry.modified_s - stored_s if entry else 0.0
        return _check("create", first and not second, "a name that is taken can be created again: the store ignores If-None-Match")

    def reads(self) -> Check:
        key, body = self._new("read"), os.urandom(BODY_BYTES)
        self._bucket.create(key, body)
        return _check("read after write", self._read(key) == body, "what was just written cannot be read")

    def ranges(self) -> Check:
        key, body = self._new("range"), os.urandom(BODY_BYTES)
        self._bucket.replace(key, body)
        wanted = [(0, 1), (1000, 96), (BODY_BYTES - 5, 100), (BODY_BYTES + 7, 100)]
        right = all(self._bucket.get(key, start, length) == body[start : start + length] for start, length in wanted)
        return _check("ranges", right, "parts of an object are read wrong")

    def lists(self) -> Check:
        listed = [entry.key for entry in self._bucket.list(self._name)]
        return _check("list after write", set(self._made) <= set(listed), "what was just written is not listed")

    def replaces(self) -> Check:
        key = self._new("replaced")
        bodies = [os.urandom(BODY_BYTES) for _ in range(3)]
        seen = []
        for body in bodies:
            self._bucket.replace(key, body)
            seen.append(self._read(key))
        return _check("read after replace", seen == bodies, "an object that was just replaced reads as before")

    def races(self, rounds: int) -> Check:
        counts = [self._race(number) for number in range(rounds)]
        told = f"{RACERS} creates of one name at the same moment had {'/'.join(map(str, counts))} winners: creating is not atomic"
        return _check("race", counts == [1] * rounds, told)

    def clocks(self) -> Check:
        told = f"the clocks of this machine and of the store differ by {abs(self.skew_s):.0f} s"
        return Check("clock", abs(self.skew_s) <= SKEW_MAX_S, told, needed=False)

    def deletes(self) -> Check:
        try:
            gone = all(self._each(self._bucket.delete, self._made))
        except Refused as error:
            return _check("delete", False, f"objects cannot be deleted, so nothing is ever pruned: {error}", needed=False)
        return _check("delete", gone, "the store says that it deletes and does not, so nothing is ever pruned", needed=False)

    @contextlib.contextmanager
    def cleaned(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # The first error is told; what is left is small, and nobody reads it.
            with contextlib.suppress(SnapshotError):
                self._each(self._bucket.delete, self._made)
            raise

    def _race(self, number: int) -> int:
        """How many creates of one name said that they had made it; none when what is there is not the winner's."""
        key = self._new(f"race-{number}")
        bodies = [os.urandom(BODY_BYTES) for _ in range(RACERS)]
        line = threading.Barrier(RACERS)

        def run(body: bytes) -> bool:
            line.wait()
            return self._bucket.create(key, body)

        won = self._each(run, bodies)
        winners = [body for body, first in zip(bodies, won, strict=True) if first]
        return len(winners) if self._read(key) in winners else 0

    def _new(self, name: str) -> str:
        key = f"{self._name}-{name}"
        self._made.append(key)
        return key

    def _read(self, key: str) -> bytes | None:
        try:
            return self._bucket.get(key)
        except Missing:
            return None

    def _each(self, call: Callable[[Item], bool], items: list[Item]) -> list[bool]:
        return list(self._threads.map(call, items))


def _check(name: str, ok: bool, told: str, *, needed: bool = True) -> Check:
    return Check(name, ok, "holds" if ok else told, needed)
