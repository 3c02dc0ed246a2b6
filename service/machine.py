"""What the machine gives this process: processors and memory, less what its control groups take away, and what it has of it. Read when
somebody asks."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
_MEMORY_LINE = re.compile(r"^(RssAnon|RssFile|VmSwap):\s+(\d+) kB", re.MULTILINE)
_MEMORY_KINDS = {"RssAnon": "anonymous", "RssFile": "file", "VmSwap": "swap"}
_OLD_MEMORY, _OLD_QUOTA, _OLD_PERIOD = "memory/memory.limit_in_bytes", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


def processors(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> float:
    """Processors that may be used at the same time; a share of one counts as a fraction."""
    quotas = [_read(path / "cpu.max") for path in _groups(root, own)]
    quotas.append(_read(root / _OLD_QUOTA) + _read(root / _OLD_PERIOD))
    shares = [int(words[0]) / int(words[1]) for words in quotas if len(words) == 2 and words[0].isdigit()]
    return min([float(len(os.sched_getaffinity(0))), *shares])


def memory_limit_bytes(root: Path = CGROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Bytes above which the process is killed: the lowest limit around it, or all memory of the machine."""
    found = [_read(path / "memory.max") for path in _groups(root, own)]
    found.append(_read(root / _OLD_MEMORY))
    limits = [int(words[0]) for words in found if words and words[0].isdigit()]
    return min([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *limits])


def memory() -> dict[str, int]:
    """Bytes of resident memory that are the process's own (`anonymous`) and pages of mapped files (`file`), and what is swapped out."""
    return {_MEMORY_KINDS[name]: int(kib) * 1024 for name, kib in _MEMORY_LINE.findall(Path("/proc/self/status").read_text("ascii"))}


def _groups(root: Path, own: Path) -> Iterator[Path]:
    """The process's own group and those around it, as far as they can be seen."""
    names = [line.removeprefix("0::").strip("/") for line in own.read_text("ascii").splitlines() if line.startswith("0::")]
    folder = root / (names[0] if names else "")
    while folder.is_relative_to(root):
        yield folder
        folder = folder.parent


def _read(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").split()
    except OSError:
        return []
