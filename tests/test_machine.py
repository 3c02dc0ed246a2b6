"""Limits of control groups, as files of both versions say them."""

from __future__ import annotations

import os
from pathlib import Path

from service.machine import memory_limit_bytes, processors

ALL_MEMORY = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
ALL_PROCESSORS = len(os.sched_getaffinity(0))


def test_without_groups_it_is_the_machine(tmp_path: Path) -> None:
    """No file says anything: all processors, all memory."""
    own = write(tmp_path / "own", "")
    assert processors(tmp_path, own) == ALL_PROCESSORS
    assert memory_limit_bytes(tmp_path, own) == ALL_MEMORY


def test_the_lowest_limit_around_the_process_holds(tmp_path: Path) -> None:
    """Version 2: a group outside may be narrower than the process's own; `max` is no limit."""
    own = write(tmp_path / "own", "0::/pod/container\n")
    write(tmp_path / "pod/container/memory.max", "max\n")
    write(tmp_path / "pod/memory.max", "1000000\n")
    write(tmp_path / "pod/container/cpu.max", "50000 100000\n")
    write(tmp_path / "pod/cpu.max", "max 100000\n")
    assert memory_limit_bytes(tmp_path, own) == 1_000_000
    assert processors(tmp_path, own) == 0.5


def test_limits_of_version_1(tmp_path: Path) -> None:
    """No limit is -1 for processors and more than there is for memory."""
    own = write(tmp_path / "own", "5:memory:/docker\n")
    memory = write(tmp_path / "memory/memory.limit_in_bytes", "9223372036854771712\n")
    quota = write(tmp_path / "cpu/cpu.cfs_quota_us", "-1\n")
    write(tmp_path / "cpu/cpu.cfs_period_us", "100000\n")
    assert (processors(tmp_path, own), memory_limit_bytes(tmp_path, own)) == (ALL_PROCESSORS, ALL_MEMORY)
    memory.write_text("2000000\n")
    quota.write_text("25000\n")
    assert (processors(tmp_path, own), memory_limit_bytes(tmp_path, own)) == (0.25, 2_000_000)


def test_this_process_has_some_of_both() -> None:
    assert 0 < processors() <= ALL_PROCESSORS
    assert 0 < memory_limit_bytes() <= ALL_MEMORY


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
