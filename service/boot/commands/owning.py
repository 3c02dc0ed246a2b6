"""The data directory opened by a command, as a start of the service would: it arrives, owns the prefix, and stops in order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from service.boot.arrival import Arrival
from service.boot.chores import Chores, Schedule
from service.boot.keeper import Keeper
from service.boot.terms import options, permissions
from service.boot.trust import examine
from service.engine.engine import Engine
from service.engine.files import LIVE, DirectoryLock
from service.engine.opening import refuse_foreign
from service.logs import logger
from service.settings import Settings
from snapshots.errors import Missing, SnapshotError, Unreachable
from snapshots.prefix import Prefix
from snapshots.start import Allowed

NO_SCHEDULE = Schedule(0.0, 0.0, "")


class Owned(msgspec.Struct, frozen=True):
    """What a command can use while it owns the prefix."""

    engine: Engine
    keeper: Keeper
    chores: Chores


def require_data(settings: Settings) -> None:
    """Raises Missing: a command makes no index and restores none."""
    refuse_foreign(settings.directory)
    live = settings.directory / LIVE
    if not live.is_dir() or not any(live.iterdir()):
        raise Missing(f"there is no data in {settings.directory}: check ISCC_SEARCH_INDEX_URI, or start `tidepool serve` once")


@contextmanager
def owned(settings: Settings, prefix: Prefix, lock: DirectoryLock) -> Iterator[Owned]:
    """Yields what is open. At the end the bucket has everything, or Unreachable is raised."""
    directory, opts = settings.directory, options(settings)
    examine(prefix.bucket, directory, accept=settings.snapshot_unsafe)
    arrival = Arrival(directory, lock, prefix, opts, _permissions(settings), _ignore, _report)
    arrived = arrival.run()
    if arrived.owned is None:
        raise AssertionError("without a bucket there is no arrival here")
    engine = arrived.engine
    keeper = Keeper(engine, prefix, directory, directory / LIVE, arrived.owned, settings.log_interval, _ended, _report)
    keeper.start()
    try:
        yield Owned(engine, keeper, Chores(keeper, directory, opts, NO_SCHEDULE, _report))
    except BaseException:
        keeper.stop(0)
        raise
    else:
        unfinished = keeper.stop(settings.drain_seconds)
        if unfinished:
            raise Unreachable(unfinished)
    finally:
        if not keeper.uses_engine:  # else closing LMDB under a reader would end the process the hard way
            engine.close()


def _permissions(settings: Settings) -> Allowed:
    return msgspec.structs.replace(permissions(settings, ""), serve_unreachable=False)


def _ended(error: SnapshotError) -> None:
    """The shipper is told again by whoever waits for it."""
    logger.error("%s", error)


def _ignore(name: str, reason: str) -> None:
    """Nobody asks in which state a command is."""


def _report(name: str, members: dict[str, object]) -> None:
    """What the engine does by itself is for the log of a service."""
