"""The drill: a restore on trial. What the bucket gives must answer as the running index did at the same request."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from service.boot.recover import restore_to
from service.boot.source import EngineSource
from service.engine.engine import Engine
from service.engine.options import Options
from service.engine.parts import Report
from service.engine.sample import Sample
from snapshots.fetch import Progress
from snapshots.history import Point
from snapshots.manifest import Manifest
from snapshots.prefix import Prefix

DRILL = "drill"
QUERIES = 16
"""Of each index."""


class Drilled(msgspec.Struct, frozen=True):
    """What a drill found. `problems` is empty when the copy is right."""

    at_us: int
    generation: int
    sequence: int
    queries: int
    bytes: int
    seconds: float
    problems: list[str]


def drill(
    source: EngineSource,
    prefix: Prefix,
    newest: Manifest,
    directory: Path,
    opts: Options,
    wait_shipped: Callable[[int], None],
    report: Report,
) -> Drilled:
    """Restores to a directory beside the data, compares, deletes it."""
    started = time.monotonic()
    expected = source.sample(QUERIES, seed=time.time_ns())
    wait_shipped(expected.sequence)
    target = directory / DRILL
    shutil.rmtree(target, ignore_errors=True)
    try:
        point = Point(newest, newest.lineage, None, max(expected.sequence, newest.base_sequence))
        restored = restore_to(prefix, point, target, opts, Progress(), report, force=False)
        copy = Engine.open(target, opts, on_event=report)
        try:
            copy.catch_up()
            found = copy.answer(expected.queries)
        finally:
            copy.close()
    finally:
        for folder in (target, target.with_name(f"{DRILL}.partial")):
            shutil.rmtree(folder, ignore_errors=True)
    return Drilled(
        at_us=time.time_ns() // 1000,
        generation=newest.generation,
        sequence=expected.sequence,
        queries=len(expected.queries),
        bytes=restored.bytes,
        seconds=round(time.monotonic() - started, 3),
        problems=differences(expected, found),
    )


def differences(expected: Sample, found: Sample) -> list[str]:
    """One sentence for each thing that the copy has or answers otherwise."""
    problems = []
    if found.sequence != expected.sequence:
        problems.append(f"the copy ends at request {found.sequence}, the index was asked at {expected.sequence}")
    names = sorted(expected.counts.keys() | found.counts.keys())
    problems.extend(
        f"index '{name}' has {found.counts.get(name, 0)} assets in the copy and {expected.counts.get(name, 0)} here"
        for name in names
        if expected.counts.get(name) != found.counts.get(name)
    )
    wrong = [query for query, a, b in zip(expected.queries, expected.answers, found.answers, strict=True) if a != b]
    problems.extend(f"a search in index '{query.index}' for asset {query.key.hex()} is answered differently" for query in wrong)
    return problems
