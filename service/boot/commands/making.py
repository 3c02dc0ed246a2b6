"""`create` and `verify --drill`: by the service that runs, or on the data directory when none does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

import msgspec

from service.api.schema_snapshots import SnapshotCreated, SnapshotDrill
from service.bar import Watched
from service.boot.bodies import created_body
from service.boot.commands.owning import Owned, owned, require_data
from service.boot.commands.running import address, ask
from service.boot.commands.told import EXIT_PROBLEMS, Told, opened_prefix
from service.boot.figures import shown_drill
from service.engine.errors import Damaged, Locked
from service.engine.files import DirectoryLock
from service.settings import Settings
from service.tables import members, moment, size
from snapshots.errors import Corrupt, SnapshotError, Unreachable
from snapshots.fetch import Progress

T = TypeVar("T")
Watch = Callable[[Watched], AbstractContextManager[None]]
SNAPSHOTS, DRILL = "/snapshots", "/snapshots/drill"


def create(settings: Settings, url: str | None, watch: Watch) -> Told:
    """A checkpoint now."""
    progress = Progress()
    progress.begin("making a checkpoint", 0)
    with watch(progress):
        made = _do(settings, url, SNAPSHOTS, SnapshotCreated, lambda open_: created_body(open_.keeper.checkpoint()))
    return Told(made, _created(made))


def drill(settings: Settings, url: str | None, watch: Watch) -> Told:
    """A restore on trial."""
    progress = Progress()
    progress.begin("restoring on trial", 0)
    with watch(progress):
        found = _do(settings, url, DRILL, SnapshotDrill, _drill)
    return Told(found, _drilled(found), tuple(found.problems), EXIT_PROBLEMS if found.problems else 0)


def _do(settings: Settings, url: str | None, path: str, kind: type[T], here: Callable[[Owned], T]) -> T:
    """The body that the service answers, or the same made here."""
    if url:
        return _asked(settings, address(settings, url), path, kind)
    require_data(settings)
    try:
        lock = DirectoryLock(settings.directory)
    except Locked as error:
        try:
            return _asked(settings, address(settings, None), path, kind)
        except Unreachable as silent:
            raise Unreachable(f"{error}; {silent}") from silent
    with lock, opened_prefix(settings, make=True) as prefix, owned(settings, prefix, lock) as open_:
        return here(open_)


def _asked(settings: Settings, url: str, path: str, kind: type[T]) -> T:
    body = ask(settings, url, path)
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SnapshotError(f"{url}{path} answers what this version does not know: {error}") from error


def _drill(open_: Owned) -> SnapshotDrill:
    try:
        found = open_.chores.drill()
    except Damaged as error:  # of the copy: what is here was opened before
        raise Corrupt(f"the copy cannot be used: {error}") from error
    if found is None:
        raise AssertionError("nobody else drills here")
    return shown_drill(found)


def _created(made: SnapshotCreated) -> str:
    return members(
        [
            ("generation", made.generation),
            ("lineage", made.lineage),
            ("base", f"request {made.base_sequence}, {moment(_us(made))}"),
            ("assets", made.counts.get("assets", 0)),
            ("size", size(made.bytes)),
            ("uploaded", size(made.uploaded_bytes)),
            ("there already", size(made.known_bytes)),
            ("seconds", ", ".join(f"{name} {seconds:.2f}" for name, seconds in made.seconds.items())),
        ]
    )


def _us(made: SnapshotCreated) -> int | None:
    return None if made.base_time is None else round(made.base_time.timestamp() * 1e6)


def _drilled(found: SnapshotDrill) -> str:
    return members(
        [
            ("drill", "the copy answers as the index does" if found.ok else "THE COPY DIFFERS"),
            ("generation", found.generation),
            ("up to request", found.sequence),
            ("searches compared", found.queries),
            ("fetched", size(found.bytes)),
            ("seconds", f"{found.seconds:.1f}"),
        ]
    )
