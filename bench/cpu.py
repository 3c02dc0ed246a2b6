"""Who used the processors meanwhile: the server, the load generator, or others, whose share says whether a figure counts at all."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Used(msgspec.Struct, frozen=True):
    """CPU seconds since the machine or the process began. `stolen` is what a hypervisor gave to somebody else."""

    busy: float
    stolen: float
    server: float
    own: float


def used(server: int) -> Used:
    user, nice, system, _, _, irq, softirq, stolen = (int(part) / TICKS_PER_S for part in _first_line("/proc/stat").split()[1:9])
    mine = os.times()
    busy = user + nice + system + irq + softirq
    return Used(busy, stolen, sum(_process_s(process) for process in family(server)), mine.user + mine.system)


def others_share(before: Used, after: Used, elapsed_s: float) -> float:
    """Of all processor time of the machine, what neither the server nor this process had."""
    others = (after.busy - before.busy) - (after.server - before.server) - (after.own - before.own)
    return max(0.0, others + after.stolen - before.stolen) / (elapsed_s * (os.cpu_count() or 1))


def stolen_share(before: Used, after: Used, elapsed_s: float) -> float:
    """Of all processor time of the machine, what a hypervisor gave to somebody else."""
    return (after.stolen - before.stolen) / (elapsed_s * (os.cpu_count() or 1))


def family(process: int) -> list[int]:
    """The process and all its descendants."""
    found = [process]
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def _process_s(process: int) -> float:
    fields = _first_line(f"/proc/{process}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _first_line(path: str) -> str:
    with Path(path).open() as file:
        return file.readline()
