"""The start-up table: from the state of this disk and of the bucket to what is done. Decides, does nothing.

The rows are those of DESIGN.md. What must not happen by itself is raised as Foreign, Corrupt or Unreachable, with the way out in the
message.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec

from snapshots.errors import Corrupt, Foreign, Refused, Unreachable
from snapshots.manifest import Manifest
from snapshots.mark import Mark
from snapshots.walk import Standing


class Disk(msgspec.Struct, frozen=True):
    """`data` is `none`, `whole` or `damaged` (then `reason` says how)."""

    data: str
    mark: Mark | None = None
    reason: str = ""
    sequence: int | None = None
    """The last request that `whole` data holds, where that is known."""

    @property
    def is_blank(self) -> bool:
        """Nothing was ever written to it or published from it: two first starts on one empty prefix leave such a disk behind. A copy of
        the past that holds nothing has a parent, and somebody wanted it."""
        begun = self.mark is not None and (self.mark.epoch > 0 or self.mark.parent is not None)
        return self.data == "whole" and self.sequence == 0 and not begun


class Remote(msgspec.Struct, frozen=True):
    """What stands under the prefix. `initialised` without `newest`: allowed to be empty."""

    url: str
    initialised: bool
    newest: Manifest | None


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator permits. `adopt` is empty, `local` or `remote`."""

    create: bool
    serve_unreachable: bool
    adopt: str = ""


class Action(StrEnum):
    """What a start does."""

    CREATE = "create"
    """An empty index, published as a new lineage."""
    PUBLISH = "publish"
    """This disk's data becomes a new lineage of a prefix that has none."""
    ADOPT = "adopt"
    """This disk's data replaces the lineage of the prefix, which stays readable."""
    USE = "use"
    """This disk's data, after what the log has more."""
    RESTORE = "restore"
    """The newest base, then the log."""
    READ = "read"
    """This disk's data for reading, until the bucket answers."""


class Decision(msgspec.Struct, frozen=True):
    """`aside` names what the directory that is in the way becomes (`live.<aside>-<time>`); empty when nothing is in the way."""

    action: Action
    reason: str
    aside: str = ""
    keeps_unshipped: bool = False
    """The rows that this disk has not shipped are written to a file first."""


def decide(disk: Disk, remote: Remote | Unreachable, allowed: Allowed, standing: Callable[[Mark, Manifest], Standing]) -> Decision:
    """`standing` compares the logs; it is asked only when both are of one lineage."""
    if isinstance(remote, Unreachable):
        return _without_bucket(disk, remote, allowed)
    if remote.newest is None:
        return _empty_prefix(disk, remote, allowed)
    if disk.data == "none":
        return Decision(Action.RESTORE, f"there is no data here, {remote.url} has generation {remote.newest.generation}")
    if disk.is_blank:
        return Decision(Action.RESTORE, f"nothing was ever written here, {remote.url} has lineage {remote.newest.lineage}", aside="blank")
    if disk.mark is None or disk.mark.lineage != remote.newest.lineage:
        return _another_lineage(disk, remote, remote.newest, allowed)
    if disk.data == "damaged":
        return Decision(Action.RESTORE, disk.reason, aside="corrupt")
    return _same_lineage(standing(disk.mark, remote.newest), disk.mark, remote, allowed)


def _without_bucket(disk: Disk, error: Unreachable, allowed: Allowed) -> Decision:
    if disk.data == "none" or disk.is_blank:
        raise Unreachable(f"there is no data here, and the bucket that may have it cannot be reached: {error}")
    if disk.data == "whole" and allowed.serve_unreachable:
        return Decision(Action.READ, str(error))
    if disk.data == "whole":
        raise Unreachable(
            f"{error}; start again when it answers, or set ISCC_SEARCH_SNAPSHOT_UNREACHABLE=serve to answer searches meanwhile"
        )
    raise Unreachable(f"the data here is damaged, and the bucket cannot be reached: {error}; {disk.reason}")


def _empty_prefix(disk: Disk, remote: Remote, allowed: Allowed) -> Decision:
    permitted = allowed.create or remote.initialised
    if disk.data == "damaged":
        raise Refused(disk.reason)
    if disk.mark is not None and disk.mark.epoch > 0:
        if allowed.adopt == "local":
            return Decision(Action.PUBLISH, f"{remote.url} is empty and gets what is here, as asked")
        raise Foreign(
            f"this disk was published (lineage {disk.mark.lineage}), but {remote.url} is empty: it was emptied or the name is wrong. "
            "Check ISCC_SEARCH_SNAPSHOT_URL; to publish what is here anew, start once with `tidepool serve --adopt-local`"
        )
    if not permitted:
        what = "there is no data here either" if disk.data == "none" else "the data here was never published"
        raise Foreign(
            f"{remote.url} is empty, and {what}: a first start needs permission, so that a wrong name cannot look like an empty index. "
            "Check ISCC_SEARCH_SNAPSHOT_URL; if it is right, run `tidepool snapshot init` once, or set ISCC_SEARCH_SNAPSHOT_MISSING=create"
        )
    if disk.data == "none":
        return Decision(Action.CREATE, f"{remote.url} is empty, and there is no data here: a first start")
    return Decision(Action.PUBLISH, f"{remote.url} is empty and gets what is here")


def _another_lineage(disk: Disk, remote: Remote, newest: Manifest, allowed: Allowed) -> Decision:
    if allowed.adopt == "local" and disk.data == "whole":
        return Decision(Action.ADOPT, f"what is here replaces lineage {newest.lineage} of {remote.url}, as asked")
    if allowed.adopt == "remote":
        return Decision(Action.RESTORE, f"{remote.url} replaces what is here, as asked", aside="left")
    ours = "was never published" if disk.mark is None else f"belongs to lineage {disk.mark.lineage}"
    raise Foreign(
        f"the data here {ours}, but {remote.url} holds lineage {newest.lineage}: they are not the same index. "
        "Check ISCC_SEARCH_INDEX_URI and ISCC_SEARCH_SNAPSHOT_URL; to go on with one of them, start once with `tidepool serve "
        "--adopt-remote` (the data here is set aside) or `tidepool serve --adopt-local` (the lineage in the bucket ends and stays readable)"
    )


def _same_lineage(found: Standing, mark: Mark, remote: Remote, allowed: Allowed) -> Decision:
    match found.kind:
        case "fits":
            return Decision(Action.USE, "the data here is as new as the bucket")
        case "behind":
            return Decision(Action.USE, "the bucket has more, which is replayed")
        case "pruned":
            return Decision(Action.RESTORE, found.detail, aside="old")
        case "diverged":
            return Decision(Action.RESTORE, found.detail, aside="fenced", keeps_unshipped=True)
    if allowed.adopt == "local":
        return Decision(Action.ADOPT, f"{found.detail}; what is here begins a new lineage, as asked")
    if found.kind == "broken":
        raise Corrupt(
            f"{found.detail}: what the log of {remote.url} holds from there on cannot be read. Bring the object back if you can; to go on "
            "with what is here, start once with `tidepool serve --adopt-local` (the lineage in the bucket ends and stays as it is)"
        )
    if allowed.adopt == "remote":
        return Decision(Action.RESTORE, f"{found.detail}; {remote.url} replaces what is here, as asked", aside="left", keeps_unshipped=True)
    if found.kind == "gap":
        raise Foreign(
            f"{found.detail}: it was served with another bucket or without one meanwhile. Start once with `tidepool serve --adopt-local` "
            "to publish what is here, or with `tidepool serve --adopt-remote` to go back to the bucket (the data here is set aside)"
        )
    raise Foreign(
        f"the log of lineage {mark.lineage} in {remote.url} is not the one that this disk knows: {found.detail}. "
        "The bucket was changed by something else than tidepool, or brought back from a copy. Find out which is right; start once with "
        "`tidepool serve --adopt-remote` to take the bucket's, or with `tidepool serve --adopt-local` to take what is here (the lineage in "
        "the bucket ends and stays readable)"
    )
