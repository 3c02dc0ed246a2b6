"""What keeps background work waiting that nobody misses at once. What frees room is never kept waiting."""

from __future__ import annotations

from collections.abc import Callable


class Pressure:
    """Lives as long as the engine. Asked by its background threads, before each step that takes room or memory."""

    def __init__(self) -> None:
        self._disk: Callable[[], bool] = _plenty
        self._memory: Callable[[], bool] = _plenty

    def watch(self, disk: Callable[[], bool], memory: Callable[[], bool]) -> None:
        """Has them asked from now on whether the disk or the memory is short."""
        self._disk, self._memory = disk, memory

    @property
    def on_disk(self) -> bool:
        """Sealing, rewriting and graphs wait: they write files."""
        return self._disk()

    @property
    def on_memory(self) -> bool:
        """Rewriting and graphs wait. Sealing does not: it turns memory of the process into pages of a file."""
        return self._memory()


def _plenty() -> bool:
    return False
