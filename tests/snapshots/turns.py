"""Interleavings: several actors, each stopped before each of its calls of the bucket until it is its turn."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from tests.snapshots.fakes import PlannedBucket

PATIENCE_S = 20.0


class Turns:
    """Runs the actors in threads, one call of the bucket at a time. `results` are the errors they ended with, or None."""

    def __init__(self) -> None:
        self.results: dict[str, Exception | None] = {}
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[threading.Event]] = {}
        self._called: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._free = False

    def begin(self, name: str, bucket: PlannedBucket, action: Callable[[], object]) -> None:
        self._waiting[name], self._called[name] = deque(), 0

        def gate(method: str, key: str) -> None:
            turn = threading.Event()
            with self._changed:
                if self._free:
                    return
                self._waiting[name].append(turn)
                self._changed.notify_all()
            assert turn.wait(PATIENCE_S)

        def called() -> None:
            with self._changed:
                self._called[name] += 1
                self._changed.notify_all()

        def run() -> None:
            error: Exception | None = None
            try:
                action()
            except Exception as caught:  # noqa: BLE001 - the test looks at it
                error = caught
            with self._changed:
                self.results[name] = error
                self._changed.notify_all()

        bucket.gate, bucket.after = gate, called
        self._threads.append(threading.Thread(target=run, name=name))
        self._threads[-1].start()

    def step(self, name: str) -> bool:
        """Lets the actor make one call, and comes back when it was made. False when it has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting[name] or name in self.results, PATIENCE_S)
            if not self._waiting[name]:
                return False
            count = self._called[name]
            self._waiting[name].popleft().set()
            assert self._changed.wait_for(lambda: self._called[name] > count, PATIENCE_S)
            return True

    def play(self, order: Sequence[str]) -> None:
        """In this order; then all that are left, in turn, to their end."""
        for name in order:
            self.step(name)
        going = list(self._waiting)
        while going:
            going = [name for name in going if self.step(name)]
        self.finish()

    def settle(self, name: str) -> None:
        """Until the actor waits for its turn, or has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting[name] or name in self.results, PATIENCE_S)

    def release(self) -> None:
        """Nobody waits for turns any more."""
        with self._changed:
            self._free = True
            for waiting in self._waiting.values():
                while waiting:
                    waiting.popleft().set()

    def finish(self) -> None:
        """Everybody runs freely to the end."""
        self.release()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
