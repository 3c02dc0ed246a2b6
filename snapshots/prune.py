"""Deleting checkpoints and log that nobody needs any more: first a plan, then what it says. Each step may run twice, and may be killed.

Never deleted: claims and fences, the newest checkpoint and the one below the newest manifest, pinned ones, and what is younger than the
window. Of the log of a lineage that was in effect in the window, everything from the newest checkpoint older than the window on is kept,
and that checkpoint too: from there every time in the window can be reached. The log object at a place is kept with what is behind it:
a disk that shipped it asks for it by its digest.

| we die | then |
|---|---|
| between two manifests | the next plan has the others |
| before a manifest is put back that somebody pinned while it was deleted | the pin names nothing: every check says so |
| before the log | nothing asks for it: the next plan has it |
| within the log | it goes from the oldest on, so the hole is at its beginning, where nobody starts |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import msgspec

from snapshots.bucket import Entry
from snapshots.catalog import Reign, is_past, read_manifests, reigns, window_base
from snapshots.errors import Corrupt, Missing
from snapshots.failpoints import reach
from snapshots.log import FENCE_BYTES_MAX
from snapshots.manifest import Manifest
from snapshots.paths import LOGS, MANIFESTS, parse_log_key, parse_manifest_key
from snapshots.pins import pinned
from snapshots.prefix import Prefix
from snapshots.retention import USUAL, WINDOW_US, Policy, is_old, reasons

DELETES = 16
"""Log objects that are deleted at a time."""


class Doomed(msgspec.Struct, frozen=True):
    """An object that goes. `bytes` is its own size; what a checkpoint's files take is freed by a sweep."""

    key: str
    bytes: int
    reason: str


class Kept(msgspec.Struct, frozen=True):
    """A checkpoint that stays, and why."""

    generation: int
    reasons: tuple[str, ...]


class KeptLog(msgspec.Struct, frozen=True):
    """What stays of the log of a lineage."""

    lineage: str
    objects: int
    bytes: int
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """What a prune would do at `now_us`. Log objects are in the order in which they go."""

    now_us: int
    manifests: tuple[Doomed, ...] = ()
    log: tuple[Doomed, ...] = ()
    kept: tuple[Kept, ...] = ()
    kept_log: tuple[KeptLog, ...] = ()


class Pruned(msgspec.Struct, frozen=True):
    """What a prune did. `spared`: held by now by a pin or by the newest manifest. `undeleted`: still there after the store deleted them."""

    manifests: int
    log_objects: int
    bytes: int
    spared: tuple[str, ...]
    undeleted: tuple[str, ...]


def plan(prefix: Prefix, now_us: int, policy: Policy = USUAL) -> Plan:
    """Reads only. Raises Corrupt or Refused when a manifest or a pin cannot be read: nothing is deleted then."""
    manifests = read_manifests(prefix)
    if not manifests:
        return Plan(now_us)
    entries = {parse_manifest_key(entry.key): entry for entry in prefix.bucket.list(MANIFESTS)}
    kept = _kept(prefix, manifests, now_us, policy)
    doomed = []
    for each in manifests:
        entry = entries.get(each.generation)
        if each.kind != "checkpoint" or each.generation in kept or entry is None:
            continue
        if is_old(entry.modified_s, now_us):
            doomed.append(Doomed(entry.key, entry.size, "no span of the retention asks for it"))
        else:
            kept[each.generation] = ["young in the bucket"]
    log, kept_log = _plan_log(prefix, manifests, now_us, policy.window_us)
    shown = tuple(Kept(generation, tuple(why)) for generation, why in sorted(kept.items()))
    return Plan(now_us, tuple(doomed), tuple(log), shown, tuple(kept_log))


def carry_out(prefix: Prefix, plan: Plan) -> Pruned:
    """Deletes what the plan names, but for what a pin or a new manifest holds by now."""
    manifests, spared, undeleted = 0, [], []
    for each in plan.manifests:
        body = _body(prefix, each.key)
        if parse_manifest_key(each.key) in _held(prefix, plan.now_us):
            spared.append(each.key)
        elif not prefix.bucket.delete(each.key):
            undeleted.append(each.key)
        elif body and parse_manifest_key(each.key) in pinned(prefix, plan.now_us):  # whoever pinned it found it there
            prefix.bucket.create(each.key, body)
            spared.append(each.key)
        else:
            manifests += 1
        reach("prune.manifest")
    log_objects, freed = 0, 0
    with ThreadPoolExecutor(DELETES, thread_name_prefix="prune") as pool:
        for batch in _batches(plan.log):
            gone = list(pool.map(prefix.bucket.delete, [each.key for each in batch]))
            undeleted += [each.key for each, ok in zip(batch, gone, strict=True) if not ok]
            log_objects += sum(gone)
            freed += sum(each.bytes for each, ok in zip(batch, gone, strict=True) if ok)
            reach("prune.log")
    return Pruned(manifests, log_objects, freed, tuple(spared), tuple(undeleted))


def _body(prefix: Prefix, key: str) -> bytes:
    """Empty when it is gone."""
    try:
        return prefix.bucket.get(key)
    except Missing:
        return b""


def _kept(prefix: Prefix, manifests: Sequence[Manifest], now_us: int, policy: Policy) -> dict[int, list[str]]:
    """Generations of checkpoints that stay, and why."""
    checkpoints = [each for each in manifests if each.kind == "checkpoint"]
    kept = _retained(checkpoints, set(pinned(prefix, now_us)), now_us, policy)
    if manifests[-1].base_generation:
        kept.setdefault(manifests[-1].base_generation, []).append("below the newest manifest")
    for each in checkpoints:
        if each.created_us > now_us - max(policy.window_us, WINDOW_US):
            kept.setdefault(each.generation, []).append("in the window")
    for reign in reigns(manifests):
        base = None if is_past(reign, now_us, policy.window_us) else window_base(reign, now_us, policy.window_us)
        if base is not None:
            kept.setdefault(base.generation, []).append("the window begins behind it")
    return kept


def _retained(checkpoints: Sequence[Manifest], pins: set[int], now_us: int, policy: Policy) -> dict[int, list[str]]:
    """By retention, of each lineage for itself: the one that took over must not push out the last hour of the one that was left."""
    kept: dict[int, list[str]] = {}
    for lineage in {each.lineage for each in checkpoints}:
        found = reasons([each for each in checkpoints if each.lineage == lineage], pins, now_us, policy)
        for generation, why in found.items():
            rest = why if generation == checkpoints[-1].generation else [each for each in why if each != "newest"]
            if rest:
                kept[generation] = rest
    return kept


def _held(prefix: Prefix, now_us: int) -> set[int | None]:
    """What must not go, whatever a plan says."""
    newest = prefix.newest()
    return {*pinned(prefix, now_us), newest.generation if newest else None, newest.base_generation if newest else None}


def _plan_log(prefix: Prefix, manifests: Sequence[Manifest], now_us: int, window_us: int) -> tuple[list[Doomed], list[KeptLog]]:
    needed = _needed(manifests, now_us, window_us)
    doomed, kept = [], []
    for lineage, group in groupby(_log_entries(prefix), key=lambda each: each[0]):
        entries = [(number, entry) for _, number, entry in group]
        first = needed.get(lineage)
        gone = _without_fences(prefix, lineage, _deletable(entries, first, now_us))
        goes, stays = _why(first)
        doomed += [Doomed(entry.key, entry.size, goes) for entry in gone]
        size = sum(entry.size for _, entry in entries) - sum(entry.size for entry in gone)
        kept.append(KeptLog(lineage, len(entries) - len(gone), size, stays))
    return doomed, kept


def _why(first: int | None) -> tuple[str, str]:
    """Why log objects go, and why the others stay."""
    if first is None:
        return "the lineage was left before the window", "fences, and what is young"
    if first == 0:
        return "", "no checkpoint is older than the window"
    return f"older than log object {first}, where the window begins", f"fences, and all from log object {first} on, where the window begins"


def _needed(manifests: Sequence[Manifest], now_us: int, window_us: int) -> dict[str, int]:
    """By lineage the first number that stays. A lineage that is not named needs none."""
    needed: dict[str, int] = {}
    for reign in reigns(manifests):
        if is_past(reign, now_us, window_us):
            continue
        first = _first(reign, manifests[-1], now_us, window_us)
        needed[reign.lineage] = min(first, needed.get(reign.lineage, first))
    return needed


def _first(reign: Reign, newest: Manifest, now_us: int, window_us: int) -> int:
    base = window_base(reign, now_us, window_us)
    first = base.log.number if base is not None else 0
    return min(first, newest.log.number) if reign.lineage == newest.lineage else first


def _log_entries(prefix: Prefix) -> Iterator[tuple[str, int, Entry]]:
    for entry in prefix.bucket.list(LOGS):
        parsed = parse_log_key(entry.key)
        if parsed is not None:
            yield *parsed, entry


def _deletable(entries: Sequence[tuple[int, Entry]], first: int | None, now_us: int) -> Iterator[tuple[int, Entry]]:
    """From the oldest up to the first that must stay."""
    for number, entry in entries:
        if (first is not None and number >= first) or not is_old(entry.modified_s, now_us):
            return
        yield number, entry


def _without_fences(prefix: Prefix, lineage: str, entries: Iterator[tuple[int, Entry]]) -> list[Entry]:
    found = list(entries)
    with ThreadPoolExecutor(DELETES, thread_name_prefix="prune") as pool:
        rows = pool.map(lambda each: each[1].size > FENCE_BYTES_MAX or _has_rows(prefix, lineage, each[0]), found)
        return [entry for (_, entry), has in zip(found, rows, strict=True) if has]


def _has_rows(prefix: Prefix, lineage: str, number: int) -> bool:
    """An object that is gone or cannot be read counts as a fence: it is left alone."""
    try:
        found = prefix.log_object(lineage, number)
    except Corrupt:
        return False
    return found is not None and bool(found.rows)


def _batches(log: Sequence[Doomed]) -> Iterator[Sequence[Doomed]]:
    """In order, and one after the other: a kill leaves no more than the rest of a batch behind the hole."""
    for start in range(0, len(log), DELETES):
        yield log[start : start + DELETES]
