"""The background: two threads, one that keeps the files of the exact tier in order and one that builds graphs.

Each step ends in one LMDB transaction and one change of a column, both under the engine's writing lock; a search waits for neither. Sealing
does not wait for a graph that is being built.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from service.engine.errors import Fatal
from service.engine.graph_tier import GraphTier
from service.engine.parts import Parts
from service.engine.tidying import Tidying

INTERVAL_S = 1.0
RETRY_S = 10.0


class Upkeep:
    """Lives as long as the engine. `step` does one piece of work; the threads do the same until there is none."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.graphs = GraphTier(parts)
        self._tidying = Tidying(parts, self.graphs)
        self._stopping = threading.Event()
        self._loops: list[tuple[threading.Thread, threading.Event]] = []
        self.fatal: Fatal | None = None

    def start(self) -> None:
        steps = {"tidying": self._tidying.step, "graphs": self.graphs.step}
        if not self._parts.options.graphs:
            del steps["graphs"]
        for name, step in steps.items():
            wake = threading.Event()
            thread = threading.Thread(target=self._run, args=(step, wake), name=name, daemon=True)
            self._loops.append((thread, wake))
            thread.start()

    def stop(self) -> None:
        """Returns when the running steps have ended. A graph that is being built is given up."""
        self._stopping.set()
        self.wake()
        self.graphs.stop()
        for thread, _ in self._loops:
            thread.join()

    def wake(self) -> None:
        """There may be work."""
        for _, wake in self._loops:
            wake.set()

    def doubt(self, file: str) -> None:
        """A sealed file was found to differ from its digest."""
        self._tidying.mending.doubt(file)
        self.wake()

    def step(self) -> bool:
        """One piece of work on the calling thread, while the threads are not started; False when there is none."""
        return self._tidying.step() or self.graphs.step()

    def waiting(self) -> dict[str, int]:
        """Pieces of background work that wait, by job. Any thread may ask."""
        return {**self._tidying.waiting(), "graph": self.graphs.waiting()}

    def _run(self, step: Callable[[], bool], wake: threading.Event) -> None:
        while not self._stopping.is_set():
            wake.wait(INTERVAL_S)
            wake.clear()
            try:
                while not self._stopping.is_set() and step():
                    pass
            except Fatal as error:
                self.fatal = error
                self._parts.report("fatal", {"error": str(error)})
                return
            except Exception as error:  # noqa: BLE001 - the loop around background work: counted, reported, tried again
                if self._stopping.is_set():
                    return
                self._parts.tally.background_failures += 1
                self._parts.report(
                    "background work failed, trying again", {"error": f"{type(error).__name__}: {error}", "retry_s": RETRY_S}
                )
                self._stopping.wait(RETRY_S)
