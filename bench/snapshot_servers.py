"""Our server on a bucket, for the benchmark of snapshots: the same start and stop as elsewhere, with settings and without a reference.

And a store that has processors of its own, as on another machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.servers import POLL_INTERVAL_S, Server, ours

OPERATIONS = re.compile(r"^tidepool_bucket_seconds_count\{([^}]*)\} (\S+)$", re.MULTILINE)


class Tidepool(Server):
    """`settings` are names without prefix, `environment` is passed as it is."""

    def __init__(self, directory: Path, environment: dict[str, str], **settings: object) -> None:
        given = {f"ISCC_SEARCH_{name}": str(value) for name, value in settings.items()}
        super().__init__(ours(), directory, environment | given)

    def status(self) -> dict[str, Any]:
        return dict(self._get("/status"))

    def shipped(self) -> int:
        """The last request that the bucket has."""
        return int(self.status()["snapshots"]["shipped_sequence"])

    def readiness(self) -> dict[str, Any]:
        return dict(self._get("/readyz"))

    def add(self, index: str, assets: list[Any]) -> None:
        self.post(f"/indexes/{index}/assets", assets)

    def lose_disk(self) -> None:
        """The machine is gone: kill, and an empty data directory."""
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.data)
        self.data.mkdir()

    def restart(self, poll_interval_s: float = POLL_INTERVAL_S) -> float:
        """Seconds from the start of the process until it is ready."""
        started = time.perf_counter()
        self.start()
        self.wait_ready(poll_interval_s)
        return time.perf_counter() - started

    def metric(self, name: str) -> float:
        """One that has no labels."""
        found = re.search(rf"^{name} (\S+)$", self._metrics(), re.MULTILINE)
        if found is None:
            raise RuntimeError(f"the server has no metric {name}")
        return float(found[1])

    def operations(self) -> dict[str, int]:
        """How often each operation of the store was called."""
        counts: dict[str, int] = {}
        for labels, value in OPERATIONS.findall(self._metrics()):
            name = re.findall(r'op(?:eration)?="(\w+)"', labels)[0]
            counts[name] = counts.get(name, 0) + int(float(value))
        return counts

    def _metrics(self) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.load(answer)


@contextmanager
def apart(store: Sequence[int]) -> Iterator[None]:
    """These processes on one half of the processors; this one, and what it starts, on the other."""
    processors = sorted(os.sched_getaffinity(0))
    half = len(processors) // 2
    _keep_on(store, processors[:half])
    os.sched_setaffinity(0, processors[half:])
    try:
        yield
    finally:
        os.sched_setaffinity(0, processors)
        _keep_on(store, processors)


def _keep_on(processes: Sequence[int], processors: Sequence[int]) -> None:
    """A thread, or a process, may end meanwhile."""
    for process in processes:
        with suppress(FileNotFoundError):
            for task in Path(f"/proc/{process}/task").iterdir():
                with suppress(ProcessLookupError):
                    os.sched_setaffinity(int(task.name), processors)
