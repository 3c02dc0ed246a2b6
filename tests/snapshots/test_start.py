"""The start-up table: every row, and the words of every refusal."""

from __future__ import annotations

import msgspec
import pytest

from snapshots.errors import Corrupt, Foreign, Refused, SnapshotError, Unreachable
from snapshots.log import START, Place
from snapshots.manifest import EMPTY_LOG, Manifest, Parent
from snapshots.mark import FORMAT, Mark
from snapshots.start import Action, Allowed, Disk, Remote, decide
from snapshots.walk import Standing

URL = "s3://bucket/prefix"
OURS, THEIRS = "a" * 32, "b" * 32
NOTHING = Allowed(create=False, serve_unreachable=True)
CREATE = Allowed(create=True, serve_unreachable=True)
ADOPT_LOCAL = Allowed(create=False, serve_unreachable=True, adopt="local")
ADOPT_REMOTE = Allowed(create=False, serve_unreachable=True, adopt="remote")
DOWN = Unreachable("connection refused")


def mark(lineage: str = OURS, epoch: int = 3) -> Mark:
    return Mark(FORMAT, lineage, epoch, "w", Place(7, "0" * 64, 70))


def remote(lineage: str = OURS) -> Remote:
    newest = Manifest(
        kind="checkpoint",
        lineage=lineage,
        epoch=3,
        generation=9,
        writer="w",
        host="h",
        created_us=1,
        base_generation=9,
        base_sequence=5,
        base_time_us=1,
        log=EMPTY_LOG,
        engine={},
        counts={},
        files=[],
    )
    return Remote(URL, initialised=True, newest=newest)


EMPTY = Remote(URL, initialised=False, newest=None)
INITIALISED = Remote(URL, initialised=True, newest=None)
NO_DATA = Disk("none")
NEW_DATA = Disk("whole")
OUR_DATA = Disk("whole", mark())
THEIR_DATA = Disk("whole", mark(THEIRS))
COPY = Disk("whole", mark(THEIRS, epoch=0))
BLANK = Disk("whole", mark(THEIRS, epoch=0), sequence=0)
"""A first start that another one forestalled."""
BLANK_AND_OURS = Disk("whole", mark(epoch=0), sequence=0)
NEVER_SERVED_WITH_A_BUCKET = Disk("whole", sequence=0)
ONE_REQUEST = Disk("whole", mark(THEIRS, epoch=0), sequence=1)
COPY_OF_NOTHING = Disk("whole", msgspec.structs.replace(mark(THEIRS, epoch=0), parent=Parent(OURS, 0)), sequence=0)
PUBLISHED_NOTHING = Disk("whole", mark(THEIRS), sequence=0)
DAMAGED = Disk("damaged", mark(), "page 7 is torn")


def never(_: Mark, __: Manifest) -> Standing:
    raise AssertionError("the logs of two lineages are not compared")


@pytest.mark.parametrize(
    ("disk", "bucket", "allowed", "standing", "action", "aside", "keeps"),
    [
        (NO_DATA, EMPTY, CREATE, "", Action.CREATE, "", False),
        (NO_DATA, INITIALISED, NOTHING, "", Action.CREATE, "", False),
        (NO_DATA, remote(), NOTHING, "", Action.RESTORE, "", False),
        (NEW_DATA, EMPTY, CREATE, "", Action.PUBLISH, "", False),
        (NEW_DATA, INITIALISED, NOTHING, "", Action.PUBLISH, "", False),
        (COPY, EMPTY, CREATE, "", Action.PUBLISH, "", False),
        (OUR_DATA, EMPTY, ADOPT_LOCAL, "", Action.PUBLISH, "", False),
        (OUR_DATA, remote(), NOTHING, "fits", Action.USE, "", False),
        (OUR_DATA, remote(), NOTHING, "behind", Action.USE, "", False),
        (OUR_DATA, remote(), NOTHING, "pruned", Action.RESTORE, "old", False),
        (OUR_DATA, remote(), NOTHING, "diverged", Action.RESTORE, "fenced", True),
        (OUR_DATA, remote(), ADOPT_LOCAL, "gap", Action.ADOPT, "", False),
        (OUR_DATA, remote(), ADOPT_LOCAL, "broken", Action.ADOPT, "", False),
        (OUR_DATA, remote(), ADOPT_LOCAL, "rewritten", Action.ADOPT, "", False),
        (OUR_DATA, remote(), ADOPT_LOCAL, "fits", Action.USE, "", False),
        (OUR_DATA, remote(), ADOPT_REMOTE, "gap", Action.RESTORE, "left", True),
        (OUR_DATA, remote(), ADOPT_REMOTE, "rewritten", Action.RESTORE, "left", True),
        (NEW_DATA, remote(), ADOPT_LOCAL, "", Action.ADOPT, "", False),
        (NEW_DATA, remote(), ADOPT_REMOTE, "", Action.RESTORE, "left", False),
        (THEIR_DATA, remote(), ADOPT_LOCAL, "", Action.ADOPT, "", False),
        (THEIR_DATA, remote(), ADOPT_REMOTE, "", Action.RESTORE, "left", False),
        (COPY, remote(), ADOPT_LOCAL, "", Action.ADOPT, "", False),
        (BLANK, remote(), NOTHING, "", Action.RESTORE, "blank", False),
        (BLANK, remote(), ADOPT_LOCAL, "", Action.RESTORE, "blank", False),
        (BLANK, EMPTY, CREATE, "", Action.PUBLISH, "", False),
        (BLANK_AND_OURS, remote(), NOTHING, "", Action.RESTORE, "blank", False),
        (NEVER_SERVED_WITH_A_BUCKET, remote(), NOTHING, "", Action.RESTORE, "blank", False),
        (COPY_OF_NOTHING, remote(), ADOPT_LOCAL, "", Action.ADOPT, "", False),
        (COPY_OF_NOTHING, DOWN, NOTHING, "", Action.READ, "", False),
        (DAMAGED, remote(), NOTHING, "", Action.RESTORE, "corrupt", False),
        (OUR_DATA, DOWN, NOTHING, "", Action.READ, "", False),
        (NEW_DATA, DOWN, NOTHING, "", Action.READ, "", False),
    ],
)
def test_what_is_done(
    disk: Disk, bucket: Remote | Unreachable, allowed: Allowed, standing: str, action: Action, aside: str, keeps: bool
) -> None:
    """One row of the table each."""
    found = decide(disk, bucket, allowed, (lambda _, __: Standing(standing, "why")) if standing else never)
    assert (found.action, found.aside, found.keeps_unshipped) == (action, aside, keeps)
    assert found.reason


FAIL = Allowed(create=True, serve_unreachable=False)


@pytest.mark.parametrize(
    ("disk", "bucket", "allowed", "standing", "error", "words"),
    [
        (NO_DATA, EMPTY, NOTHING, "", Foreign, "a first start needs permission, so that a wrong name cannot look like an empty index"),
        (NO_DATA, EMPTY, NOTHING, "", Foreign, "run `tidepool snapshot init` once, or set ISCC_SEARCH_SNAPSHOT_MISSING=create"),
        (NEW_DATA, EMPTY, NOTHING, "", Foreign, "the data here was never published: a first start needs permission"),
        (OUR_DATA, EMPTY, CREATE, "", Foreign, f"this disk was published (lineage {OURS}), but {URL} is empty"),
        (OUR_DATA, INITIALISED, CREATE, "", Foreign, "start once with `tidepool serve --adopt-local`"),
        (OUR_DATA, remote(), NOTHING, "rewritten", Foreign, f"the log of lineage {OURS} in {URL} is not the one that this disk knows: why"),
        (OUR_DATA, remote(), NOTHING, "rewritten", Foreign, "`tidepool serve --adopt-local` to take what is here"),
        (OUR_DATA, remote(), NOTHING, "broken", Corrupt, f"why: what the log of {URL} holds from there on cannot be read"),
        (OUR_DATA, remote(), ADOPT_REMOTE, "broken", Corrupt, "start once with `tidepool serve --adopt-local`"),
        (NEW_DATA, remote(), CREATE, "", Foreign, f"the data here was never published, but {URL} holds lineage {OURS}"),
        (THEIR_DATA, remote(), CREATE, "", Foreign, f"the data here belongs to lineage {THEIRS}, but {URL} holds lineage {OURS}"),
        (ONE_REQUEST, remote(), CREATE, "", Foreign, f"the data here belongs to lineage {THEIRS}, but {URL} holds lineage {OURS}"),
        (PUBLISHED_NOTHING, remote(), CREATE, "", Foreign, "they are not the same index"),
        (COPY_OF_NOTHING, remote(), CREATE, "", Foreign, "they are not the same index"),
        (BLANK, DOWN, NOTHING, "", Unreachable, "there is no data here, and the bucket that may have it cannot be reached"),
        (Disk("damaged", None, "torn"), remote(), CREATE, "", Foreign, "they are not the same index"),
        (DAMAGED, EMPTY, CREATE, "", Refused, "page 7 is torn"),
        (DAMAGED, DOWN, NOTHING, "", Unreachable, "the data here is damaged, and the bucket cannot be reached: connection refused"),
        (NO_DATA, DOWN, NOTHING, "", Unreachable, "there is no data here, and the bucket that may have it cannot be reached"),
        (OUR_DATA, DOWN, FAIL, "", Unreachable, "connection refused; start again when it answers, or set ISCC_SEARCH_SNAPSHOT_UNREACHABLE"),
    ],
)
def test_what_is_refused(
    disk: Disk, bucket: Remote | Unreachable, allowed: Allowed, standing: str, error: type[SnapshotError], words: str
) -> None:
    """The message says what is wrong and what to do."""
    with pytest.raises(error) as caught:
        decide(disk, bucket, allowed, (lambda _, __: Standing(standing, "why")) if standing else never)
    assert words in str(caught.value)


def test_places_of_the_first_object() -> None:
    """A lineage begins behind nothing."""
    assert Place(0, START, 0) == EMPTY_LOG
