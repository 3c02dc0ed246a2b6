"""`verify`: whether what is in the bucket would restore."""

from __future__ import annotations

import time

from service.boot.commands.making import Watch
from service.boot.commands.told import EXIT_PROBLEMS, Told, opened_prefix
from service.boot.terms import policy
from service.settings import Settings
from service.tables import members, size
from snapshots.damaged import Noted, note
from snapshots.errors import SnapshotError
from snapshots.fetch import Progress
from snapshots.verify import Report, verify


def check(settings: Settings, generation: int | None, share: float, watch: Watch) -> Told:
    """Looks at everything, reads the log, and of the blobs so large a share."""
    progress = Progress()
    now = time.time_ns()
    with opened_prefix(settings) as prefix, watch(progress):
        found = verify(prefix, generation, share, now, progress, now // 1000, policy(settings))
    noted = _note(settings, found) if found.noted != Noted() else ""
    return Told(found, _shown(found, noted), found.problems, EXIT_PROBLEMS if found.problems else 0)


def _note(settings: Settings, found: Report) -> str:
    """What becomes of it, in words. What was found is told whether or not it can be noted."""
    try:
        if note(settings.directory, found.noted):
            return f"noted in {settings.directory}: what the newest checkpoint needs, the next one of a running service puts right"
    except SnapshotError as error:
        return f"not noted for a service: {error}"
    return ""


def _shown(found: Report, noted: str) -> str:
    share = f", {found.read_bytes / found.bytes:.1%}" if found.bytes else ""
    return members(
        [
            ("manifests", found.manifests),
            ("blobs", f"{found.blobs}, {size(found.bytes)}"),
            ("read and hashed", f"{found.read_blobs}, {size(found.read_bytes)}{share}"),
            ("log", f"{found.log_objects} objects, {found.log_rows} requests, {size(found.log_bytes)}"),
            ("problems", len(found.problems) or "none"),
            *([("mending", noted)] if noted else []),
        ]
    )
