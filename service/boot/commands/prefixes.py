"""`init` and `doctor`: whether a prefix can be used, and what stands in it."""

from __future__ import annotations

import time

import msgspec

from service import __version__
from service.boot.commands.told import Told, opened_prefix
from service.boot.exits import EXIT_DAMAGED, exit_code
from service.boot.trust import require_safe
from service.settings import Settings
from service.tables import members, moment, table
from snapshots.catalog import log_span
from snapshots.errors import SnapshotError
from snapshots.manifest import Manifest
from snapshots.prefix import Prefix
from snapshots.probe import Findings, probe


class Initialised(msgspec.Struct, frozen=True):
    """`changed` is False when the prefix was one of ours already."""

    bucket: str
    changed: bool
    generation: int
    unsafe: str


class Owner(msgspec.Struct, frozen=True):
    """Who claimed the prefix last."""

    writer: str
    host: str
    epoch: int


class LogEnd(msgspec.Struct, frozen=True):
    """The last object of the log."""

    number: int
    sequence: int
    created_us: int
    epoch: int


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What stands under the prefix. `generation` 0: nothing yet."""

    initialised: bool
    generation: int = 0
    created_us: int = 0
    lineage: str = ""
    owner: Owner | None = None
    log: LogEnd | None = None


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What `doctor` found. `refusal`: why the store cannot be used; empty when it can. `trouble`: why the prefix cannot be read."""

    bucket: str
    findings: Findings
    refusal: str
    warnings: list[str]
    condition: Condition | None
    trouble: str


def init(settings: Settings) -> Told:
    """Allows a first start on this prefix. One that is in use stays as it is."""
    with opened_prefix(settings, make=True) as prefix:
        url = prefix.bucket.url
        newest = prefix.newest()
        if newest is not None:
            text = f"{url} holds generation {newest.generation} of lineage {newest.lineage}: nothing was changed"
            return Told(Initialised(url, changed=False, generation=newest.generation, unsafe=""), text)
        if prefix.format() is not None:
            return Told(Initialised(url, changed=False, generation=0, unsafe=""), f"{url} is initialised already")
        unsafe = require_safe(url, probe(prefix.bucket), accept=settings.snapshot_unsafe)
        prefix.initialise(f"tidepool {__version__}", time.time_ns() // 1000)
        text = f"{url} is initialised: `tidepool serve` may start with an empty index there"
        return Told(Initialised(url, changed=True, generation=0, unsafe=unsafe), text)


def doctor(settings: Settings) -> Told:
    """Tries the store and looks at the prefix. Leaves nothing behind."""
    with opened_prefix(settings) as prefix:
        findings = probe(prefix.bucket)
        condition, trouble, code = None, "", 0
        try:
            condition = _condition(prefix)
        except SnapshotError as error:
            trouble, code = str(error), exit_code(error)
        found = Diagnosis(
            bucket=prefix.bucket.url,
            findings=findings,
            refusal=findings.refusal() or "",
            warnings=findings.warnings(),
            condition=condition,
            trouble=trouble,
        )
    refused = f"{found.bucket} cannot hold snapshots: {found.refusal}" if found.refusal else ""
    problems = tuple(problem for problem in (refused, trouble) if problem)
    return Told(found, _shown(found), problems, EXIT_DAMAGED if found.refusal else code)


def _condition(prefix: Prefix) -> Condition:
    initialised, newest = prefix.format() is not None, prefix.newest()
    if newest is None:
        return Condition(initialised=initialised)
    return Condition(
        initialised=initialised,
        generation=newest.generation,
        created_us=newest.created_us,
        lineage=newest.lineage,
        owner=Owner(newest.writer, newest.host, newest.epoch),
        log=_log_end(prefix, newest),
    )


def _log_end(prefix: Prefix, newest: Manifest) -> LogEnd | None:
    tail = log_span(prefix, newest.lineage).tail
    last = prefix.log_object(newest.lineage, tail) if tail else None
    return LogEnd(last.header.number, last.header.last, last.header.created_us, last.header.epoch) if last is not None else None


def _shown(found: Diagnosis) -> str:
    checks = table(
        ["check", "result"], [(check.name, _result(check.told, ok=check.ok, needed=check.needed)) for check in found.findings.checks]
    )
    figures: list[tuple[str, object]] = [("bucket", found.bucket), ("clock skew", f"{found.findings.skew_s:+.1f} s")]
    condition = found.condition
    if condition is not None:
        figures.append(("initialised", condition.initialised))
        figures.append(
            ("newest generation", f"{condition.generation}, made {moment(condition.created_us)}" if condition.generation else None)
        )
        if condition.log is not None:
            figures.append(
                ("log ends at", f"object {condition.log.number}, request {condition.log.sequence}, {moment(condition.log.created_us)}")
            )
        if condition.owner is not None:
            figures.append(("owner", f"{condition.owner.writer} on {condition.owner.host}, epoch {condition.owner.epoch}"))
    return f"{checks}\n\n{members(figures)}"


def _result(told: str, *, ok: bool, needed: bool) -> str:
    return told if ok else f"{'FAILS' if needed else 'warning'}: {told}"
