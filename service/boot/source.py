"""The engine as snapshots see it: a log that can be read and replayed, files that can be copied."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from service.engine.engine import Engine
from service.engine.journal import LogRecord
from service.engine.sample import Sample
from snapshots.errors import Refused
from snapshots.log import Row
from snapshots.publish import CopiedFile, Copy


class EngineSource:
    """Lives as long as the engine. `replayed` is told how many bytes were replayed. After `close` nothing long begins any more."""

    def __init__(self, engine: Engine, replayed: Callable[[int], None] | None = None) -> None:
        self._engine = engine
        self._replayed = replayed
        self._using = threading.Lock()
        self._closed = False

    def close(self, timeout_s: float) -> bool:
        """Waits for what reads the engine now. False when that takes too long."""
        self._closed = True
        if not self._using.acquire(timeout=max(0.0, timeout_s)):
            return False
        self._using.release()
        return True

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._using:
            if self._closed:
                raise Refused("the process is stopping")
            yield

    @property
    def sequence(self) -> int:
        return self._engine.sequence

    def log_after(self, sequence: int, bytes_max: int) -> list[Row]:
        return [Row(record.sequence, record.time_us, record.data) for record in self._engine.log_after(sequence, bytes_max)]

    def replay(self, rows: Sequence[Row]) -> None:
        self._engine.replay([LogRecord(row.sequence, row.time_us, row.data) for row in rows])
        if self._replayed is not None:
            self._replayed(sum(len(row.data) for row in rows))

    def release_log(self, sequence: int) -> None:
        self._engine.release_log(sequence)

    def export(self, target: Path) -> Copy:
        with self._use():
            export = self._engine.export(target)
        files = [CopiedFile(file.path, file.size, file.sha256) for file in export.files]
        return Copy(export.sequence, export.time_us, export.counts, files)

    def doubt(self, file: Path) -> None:
        """A sealed file differs from its digest: it is made again in the background."""
        self._engine.doubt(file.name)

    def sample(self, count: int, seed: int) -> Sample:
        with self._use():
            return self._engine.sample(count, seed)

    def facts(self) -> dict[str, str]:
        return self._engine.facts()
