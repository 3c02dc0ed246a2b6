"""The engine as snapshots see it: a log that can be read and replayed, files that can be copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from service.engine.engine import Engine
from service.engine.journal import LogRecord
from snapshots.log import Row
from snapshots.publish import CopiedFile, Copy


class EngineSource:
    """Lives as long as the engine. `replayed` is told how many bytes were replayed."""

    def __init__(self, engine: Engine, replayed: Callable[[int], None] | None = None) -> None:
        self._engine = engine
        self._replayed = replayed

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
        export = self._engine.export(target)
        files = [CopiedFile(file.path, file.size, file.sha256) for file in export.files]
        return Copy(export.sequence, export.time_us, export.counts, files)

    def facts(self) -> dict[str, str]:
        return self._engine.facts()
