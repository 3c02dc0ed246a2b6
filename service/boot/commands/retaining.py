"""`pin`, `unpin`, `prune`, `gc`: what is kept and what goes. A plan first; it is carried out only when it is applied."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import groupby

import msgspec

from service.boot.commands.told import EXIT_PROBLEMS, Told, opened_prefix
from service.boot.exits import EXIT_FAILED
from service.boot.terms import policy
from service.settings import Settings
from service.tables import members, moment, size, table
from snapshots import prune, sweep
from snapshots.errors import Missing
from snapshots.paths import parse_log_key, parse_manifest_key
from snapshots.pins import pin, unpin
from snapshots.prune import Doomed, Plan, Pruned
from snapshots.sweep import SweepPlan, Swept

DRY = "nothing was deleted: --apply does it"


class Unpinned(msgspec.Struct, frozen=True):
    """A pin that is gone."""

    name: str


class PruneTold(msgspec.Struct, frozen=True):
    """`done` is null for a dry run."""

    plan: Plan
    done: Pruned | None


class SweepTold(msgspec.Struct, frozen=True):
    """`done` is null for a dry run."""

    plan: SweepPlan
    done: Swept | None


def set_pin(settings: Settings, name: str, generation: int | None, expires_us: int | None) -> Told:
    """Without a generation it is the newest."""
    with opened_prefix(settings) as prefix:
        if generation is None:
            newest = prefix.newest()
            if newest is None:
                raise Missing(f"{prefix.bucket.url} holds no generation that could be pinned")
            generation = newest.generation
        made = pin(prefix, name, generation, expires_us, _now_us())
    until = f"until {moment(made.expires_us)}" if made.expires_us is not None else "until it is removed"
    return Told(made, f"generation {made.generation} is kept {until}, by the pin {made.name}")


def remove_pin(settings: Settings, name: str) -> Told:
    with opened_prefix(settings) as prefix:
        unpin(prefix, name)
    return Told(Unpinned(name), f"the pin {name} is removed")


def thin_out(settings: Settings, *, apply: bool) -> Told:
    """Checkpoints and log that the retention does not ask for."""
    with opened_prefix(settings) as prefix:
        plan = prune.plan(prefix, _now_us(), policy(settings))
        done = prune.carry_out(prefix, plan) if apply else None
    problems = _undeleted(done.undeleted) if done is not None else ()
    return Told(PruneTold(plan, done), _shown_prune(plan, done), problems, EXIT_FAILED if problems else 0)


def collect(settings: Settings, *, apply: bool) -> Told:
    """Blobs that no manifest names. Two sweeps must find one before it goes."""
    with opened_prefix(settings) as prefix:
        plan = sweep.plan(prefix, _now_us())
        done = sweep.carry_out(prefix, plan) if apply else None
    lost = tuple(f"blob {digest} is named by a manifest and not in the bucket" for digest in plan.missing)
    undeleted = _undeleted(done.undeleted) if done is not None else ()
    code = EXIT_PROBLEMS if lost else EXIT_FAILED if undeleted else 0
    return Told(SweepTold(plan, done), _shown_sweep(plan, done), (*lost, *undeleted), code)


def _undeleted(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"the store says that it deleted {key}, which is still there" for key in keys)


def _shown_prune(plan: Plan, done: Pruned | None) -> str:
    goes = [(f"generation {parse_manifest_key(each.key)}", "", size(each.bytes), each.reason) for each in plan.manifests]
    goes += [_log_row(lineage, list(doomed)) for lineage, doomed in groupby(plan.log, _lineage)]
    stays = [(f"generation {each.generation}", "", "", ", ".join(each.reasons)) for each in plan.kept]
    stays += [(f"log of {each.lineage[:8]}", f"{each.objects} objects", size(each.bytes), each.reason) for each in plan.kept_log]
    headers = ["", "", "size", "why"]
    parts = [
        f"goes:\n{table(headers, goes, right=['size'])}" if goes else "goes: nothing",
        f"stays:\n{table(headers, stays, right=['size'])}" if stays else "stays: nothing is there",
    ]
    if done is not None:
        freed = f"{done.manifests} generations and {done.log_objects} log objects ({size(done.bytes)}) were deleted"
        parts.append(f"{freed}; `tidepool snapshot gc` frees the files")
    elif goes:
        parts.append(DRY)
    return "\n\n".join(parts)


def _lineage(doomed: Doomed) -> str:
    parsed = parse_log_key(doomed.key)
    return parsed[0] if parsed is not None else ""


def _log_row(lineage: str, doomed: list[Doomed]) -> tuple[str, str, str, str]:
    return f"log of {lineage[:8]}", f"{len(doomed)} objects", size(sum(each.bytes for each in doomed)), doomed[0].reason


def _shown_sweep(plan: SweepPlan, done: Swept | None) -> str:
    waiting = plan.orphans - len(plan.found) - len(plan.doomed)
    figures = members(
        [
            ("blobs", f"{plan.blobs}, {size(plan.bytes)}"),
            ("no manifest names", f"{plan.orphans}, {size(plan.orphan_bytes)}"),
            ("of these: new, to be listed", f"{len(plan.found)}, {size(sum(each.size for each in plan.found))}"),
            ("listed, not old enough", waiting),
            ("listed and old, to be deleted", f"{len(plan.doomed)}, {size(sum(each.size for each in plan.doomed))}"),
            ("named, but missing", len(plan.missing) or "none"),
        ]
    )
    if done is not None:
        uploads = f"{done.aborted} unfinished uploads were aborted" if not done.unaborted else f"unfinished uploads stay: {done.unaborted}"
        return f"{figures}\n\n{done.listed} were listed, {done.deleted} deleted ({size(done.deleted_bytes)}); {uploads}"
    return f"{figures}\n\n{DRY}" if plan.found or plan.doomed or plan.ripe else figures


def _now_us() -> int:
    return time.time_ns() // 1000
