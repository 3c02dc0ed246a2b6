"""Processors of their own for the benchmark of snapshots: what a store does meanwhile hides no error of the benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from bench.snapshot_servers import apart

ERROR = "of the benchmark"


@pytest.fixture
def store() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def fail_beside(store: int, act: Callable[[], object]) -> NoReturn:
    with apart([store]):
        assert os.sched_getaffinity(store).isdisjoint(os.sched_getaffinity(0))
        act()
        raise RuntimeError(ERROR)


def test_a_store_that_ended(store: subprocess.Popen[bytes]) -> None:
    def end() -> None:
        store.kill()
        store.wait()

    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match=ERROR):
        fail_beside(store.pid, end)
    assert os.sched_getaffinity(0) == before


def test_a_thread_that_ended(store: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """After it was listed."""
    real = os.sched_setaffinity

    def gone(task: int, processors: list[int]) -> None:
        if task == store.pid:
            raise ProcessLookupError
        real(task, processors)

    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match=ERROR):
        fail_beside(store.pid, lambda: monkeypatch.setattr(os, "sched_setaffinity", gone))
    assert os.sched_getaffinity(0) == before
