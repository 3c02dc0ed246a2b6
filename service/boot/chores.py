"""What a bucket needs now and then: pruning and sweeping, checks, drills, and the sign of life. Results outlive the process."""

from __future__ import annotations

import logging
import threading
import time
import urllib.request
from collections.abc import Callable, Set
from pathlib import Path

import msgspec

from service.boot.drill import Drilled, drill
from service.boot.jobs import Job
from service.boot.keeper import Keeper
from service.engine.errors import Damaged
from service.engine.options import Options
from service.logs import event
from snapshots import prune, sweep
from snapshots.damaged import Noted, forget
from snapshots.errors import Corrupt, Missing, Refused
from snapshots.fetch import Progress
from snapshots.files import write_whole
from snapshots.history import oldest_restorable
from snapshots.paths import blob_key
from snapshots.retention import USUAL, Policy
from snapshots.ship import Report
from snapshots.verify import Report as Checked
from snapshots.verify import verify

STATE = "chores.json"
PRUNE_S = 3600.0
PRUNE_IDLE_S = 86_400.0
VERIFY_SHARE = 0.01
TURN_S = 60.0
"""How often is asked what is due."""
RETRY_S = 600.0
HEARTBEAT_S = 60.0
HEARTBEAT_LAG_S = 60.0
HEARTBEAT_TIMEOUT_S = 10.0


class Schedule(msgspec.Struct, frozen=True):
    """Seconds between two of each; 0 for never."""

    verify_s: float
    drill_s: float
    heartbeat_url: str
    policy: Policy = USUAL


class Done(msgspec.Struct):
    """When each was last done, in seconds since 1970, and what it found. Written to `chores.json`."""

    pruned_at: float = 0.0
    pruned_generation: int = 0
    deleted: int = 0
    blobs: int = 0
    bytes: int = 0
    orphans: int = 0
    oldest_us: int | None = None
    verified_at: float = 0.0
    verified_generation: int = 0
    verified_good_at: float = 0.0
    """When the last check ended that found nothing wrong."""
    verify_problems: list[str] = []
    verify_mends: bool = False
    """Some of them the next checkpoint puts right: a check after that says whether it helped."""
    verify_failures: int = 0
    drilled_at: float = 0.0
    drilled_good_at: float = 0.0
    """When the last drill ended that found nothing wrong."""
    drilled: Drilled | None = None
    drill_failures: int = 0
    heartbeat_at: float = 0.0


class Chores:
    """Lives from the claim to the stop. `jobs` are for the schedule; `drill` is also called when somebody asks for one."""

    def __init__(
        self,
        keeper: Keeper,
        directory: Path,
        opts: Options,
        schedule: Schedule,
        report: Report,
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        """`is_short`: no drill begins by itself while the disk or the memory is."""
        self._keeper = keeper
        self._directory = directory
        self._options = opts
        self._schedule = schedule
        self._report = report
        self._is_short = is_short
        self._path = directory / STATE
        self._begun_at: dict[str, float] = {}
        self._drilling = threading.Lock()
        self._told: set[str] = set()
        """Warnings that are said once."""
        self.done = self._read()

    def jobs(self) -> list[Job]:
        """Each for itself: one that fails keeps no other from its turn."""
        return [
            Job("heartbeat", HEARTBEAT_S if self._schedule.heartbeat_url else 0, self.beat),
            Job("prune", TURN_S, lambda: self._when_due("prune", self._is_prune_due, self.prune)),
            Job("verify", TURN_S, lambda: self._when_due("verify", self._is_verify_due, self.verify)),
            Job("drill", TURN_S, lambda: self._when_due("drill", self._is_drill_due, self.drill)),
        ]

    def _when_due(self, name: str, is_due: Callable[[float], bool], work: Callable[[], object]) -> None:
        """What failed is left alone for a while: a bucket in trouble must not be asked for the same every minute."""
        now = time.time()
        if is_due(now) and now >= self._begun_at.get(name, 0.0) + RETRY_S:
            self._begun_at[name] = now
            work()

    def _is_verify_due(self, now: float) -> bool:
        mended = self.done.verify_mends and self._keeper.newest.base_generation > self.done.verified_generation
        return bool(self._schedule.verify_s) and (mended or now >= self.done.verified_at + self._schedule.verify_s)

    def _is_drill_due(self, now: float) -> bool:
        due = bool(self._schedule.drill_s) and now >= self.done.drilled_at + self._schedule.drill_s
        return due and not self.drilling and not self._is_short()

    def prune(self) -> None:
        """Drops what the retention does not ask for. Between checkpoints, so that no manifest is made of what is being deleted."""
        prefix, now_us = self._keeper.prefix, _now_us()
        with self._keeper.pause():
            pruned = prune.carry_out(prefix, prune.plan(prefix, now_us, self._schedule.policy))
            plan = sweep.plan(prefix, now_us)
            swept = sweep.carry_out(prefix, plan)
            generation = self._keeper.newest.generation
        for digest in plan.missing:
            event(logging.ERROR, "the bucket is damaged", problem=f"blob is missing key={blob_key(digest)}")
        for key in (*pruned.undeleted, *swept.undeleted):
            event(logging.ERROR, "the store says that it deleted an object, which is still there", key=key)
        self.done.pruned_at, self.done.pruned_generation = now_us / 1e6, generation
        self.done.deleted += pruned.manifests + pruned.log_objects + swept.deleted
        self.done.blobs, self.done.bytes, self.done.orphans = plan.blobs - swept.deleted, plan.bytes - swept.deleted_bytes, plan.orphans
        self.done.oldest_us = oldest_restorable(prefix)
        if swept.unaborted:
            self._warn_once("unfinished uploads stay in the store: a rule of the bucket must remove them", error=swept.unaborted)
        event(
            logging.INFO,
            "pruned",
            manifests=pruned.manifests,
            log_objects=pruned.log_objects,
            blobs=swept.deleted,
            unfinished_uploads=swept.aborted,
        )
        self._write()
        self._keeper.mend(Noted(frozenset(plan.missing)))

    def _warn_once(self, message: str, **members: object) -> None:
        if message not in self._told:
            self._told.add(message)
            event(logging.WARNING, message, **members)

    def verify(self, share: float = VERIFY_SHARE) -> None:
        """Reads some of the bucket. What is wrong is counted, shown and logged; the next checkpoint writes again what it needs of it."""
        newest = self._keeper.newest
        report = self._verify(None, share, time.time_ns(), self._keeper.damaged)
        for problem in report.problems:
            event(logging.ERROR, "the bucket is damaged", problem=problem)
        event(logging.INFO, "verified", read_bytes=report.read_bytes, problems=len(report.problems))
        self.done.verify_problems = list(report.problems)
        self.done.verify_mends = report.noted.is_needed_by(newest)
        self.done.verify_failures += bool(report.problems)
        self.done.verified_at = _now_us() / 1e6
        self.done.verified_generation = newest.generation
        if not report.problems:
            self.done.verified_good_at = self.done.verified_at
        self._write()
        self._keeper.mend(report.noted)
        forget(self._directory, Noted(frozenset(report.gone)))

    @property
    def drilling(self) -> bool:
        return self._drilling.locked()

    def drill(self) -> Drilled:
        """A restore on trial. Raises Refused when one runs already: both would use the same directory."""
        if not self._drilling.acquire(blocking=False):
            raise Refused("a drill runs already")
        try:
            return self._drill()
        finally:
            self._drilling.release()

    def _drill(self) -> Drilled:
        newest = self._keeper.newest
        try:
            drilled = drill(
                self._keeper.source, self._keeper.prefix, newest, self._directory, self._options, self._keeper.wait_shipped, self._report
            )
        except (Corrupt, Missing, Damaged) as error:
            drilled = Drilled(_now_us(), newest.generation, newest.base_sequence, 0, 0, 0.0, [str(error)])
        self.done.drilled, self.done.drilled_at = drilled, drilled.at_us / 1e6
        self.done.drill_failures += bool(drilled.problems)
        if not drilled.problems:
            self.done.drilled_good_at = self.done.drilled_at
        event(
            logging.ERROR if drilled.problems else logging.INFO,
            "drill",
            generation=drilled.generation,
            queries=drilled.queries,
            seconds=drilled.seconds,
            problems=drilled.problems,
        )
        self._write()
        if drilled.problems:
            self._keeper.mend(self._damage())
        return drilled

    def _damage(self) -> Noted:
        """Of the newest checkpoint, which is read whole, and of the log."""
        return self._verify(self._keeper.newest.generation, 1.0, 0).noted

    def _verify(self, generation: int | None, share: float, seed: int, suspects: Set[str] = frozenset()) -> Checked:
        mark = self._keeper.shipper.mark
        return verify(self._keeper.prefix, generation, share, seed, Progress(), _now_us(), self._schedule.policy, suspects, mark)

    def _is_prune_due(self, now: float) -> bool:
        """An index that nobody changes is left alone: looking at the bucket costs requests."""
        spent = now - self.done.pruned_at
        changed = self._keeper.newest.generation != self.done.pruned_generation
        return spent > PRUNE_IDLE_S or (changed and spent > PRUNE_S)

    def beat(self) -> None:
        """Only while the bucket has everything, or nearly: silence is the alarm."""
        if self._keeper.shipper.trouble is None and self._keeper.lag_s() < HEARTBEAT_LAG_S:
            with urllib.request.urlopen(self._schedule.heartbeat_url, timeout=HEARTBEAT_TIMEOUT_S):  # noqa: S310 - http or https, by the settings
                self.done.heartbeat_at = time.time()

    def _read(self) -> Done:
        """What an earlier process found. A file that cannot be read only means that everything is due."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Done)
        except (FileNotFoundError, msgspec.DecodeError):
            now = time.time()
            return Done(pruned_at=now, verified_at=now, drilled_at=now)

    def _write(self) -> None:
        write_whole(self._path, msgspec.json.encode(self.done))


def _now_us() -> int:
    return time.time_ns() // 1000
