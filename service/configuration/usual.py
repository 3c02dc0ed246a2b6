"""Defaults that follow from the machine: its processors, the memory that it gives to the container, where its users keep data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import ceil
from pathlib import Path

from service.machine import memory_limit_bytes, processors

READ_THREADS_MAX = 8  # more threads gain nothing: a search is bound by memory and the interpreter lock
MEMORY_SHARE = 0.85


def defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Texts for settings that have no default of their own."""
    return {
        "INDEX_URI": _data_directory(environ),
        "READ_THREADS": str(min(ceil(processors()), READ_THREADS_MAX)),
        "MEMORY_MAX_BYTES": str(memory_max(memory_limit_bytes(), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))),
    }


def memory_max(limit: int, machine: int) -> int:
    """A share of the limit around the process; 0 when it may use all memory of the machine."""
    return int(limit * MEMORY_SHARE) if limit < machine else 0


def _data_directory(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_DATA_HOME", "")
    return str(Path(base) / "tidepool") if base.startswith("/") else "~/.local/share/tidepool"
