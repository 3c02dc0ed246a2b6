"""`verify`: whether what is in the bucket would restore."""

from __future__ import annotations

import time

from service.boot.commands.making import Watch
from service.boot.commands.told import EXIT_PROBLEMS, Told, opened_prefix
from service.boot.life import policy
from service.settings import Settings
from service.tables import members, size
from snapshots.fetch import Progress
from snapshots.verify import Report, verify


def check(settings: Settings, generation: int | None, share: float, watch: Watch) -> Told:
    """Looks at everything, reads the log, and of the blobs so large a share."""
    progress = Progress()
    now = time.time_ns()
    with opened_prefix(settings) as prefix, watch(progress):
        found = verify(prefix, generation, share, now, progress, now // 1000, policy(settings))
    return Told(found, _shown(found), found.problems, EXIT_PROBLEMS if found.problems else 0)


def _shown(found: Report) -> str:
    share = f", {found.read_bytes / found.bytes:.1%}" if found.bytes else ""
    return members(
        [
            ("manifests", found.manifests),
            ("blobs", f"{found.blobs}, {size(found.bytes)}"),
            ("read and hashed", f"{found.read_blobs}, {size(found.read_bytes)}{share}"),
            ("log", f"{found.log_objects} objects, {found.log_rows} requests, {size(found.log_bytes)}"),
            ("problems", len(found.problems) or "none"),
        ]
    )
