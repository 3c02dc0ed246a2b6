"""Sweeping: only what two sweeps a day apart found unreferenced goes, and dying at every step."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapshots import failpoints
from snapshots.directory import DirectoryBucket
from snapshots.errors import Corrupt, Refused
from snapshots.files import sha256
from snapshots.paths import blob_key, manifest_key, parse_blob_key, parse_garbage_key
from snapshots.prefix import Prefix
from snapshots.prune import carry_out as carry_out_prune
from snapshots.prune import plan as plan_prune
from snapshots.sweep import SweepPlan, Swept, carry_out, plan
from tests.snapshots.prefixes import DAY_US, HOUR_US, MINUTE_US, NOON_US, PIECE_BYTES, Maker

PLACES = ("sweep.listed", "sweep.deleted", "sweep.finished")
LATER_US = NOON_US + DAY_US + 10 * MINUTE_US
"""When what was written at noon is old, and a list of noon too."""


class Death(Exception):
    """The process ends here."""


@pytest.fixture
def die_at() -> Iterator[dict[str, int]]:
    """Names of places, and at which visit the process dies there."""
    deaths: dict[str, int] = {}

    def visit(name: str) -> None:
        deaths[name] = deaths.get(name, 0) - 1
        if deaths[name] == 0:
            raise Death(name)

    for name in PLACES:
        failpoints.arm(name, lambda name=name: visit(name))  # type: ignore[misc]  # a default argument binds the name
    yield deaths
    for name in PLACES:
        failpoints.arm(name, lambda: None)


def sweep(made: Maker, now_us: int) -> Swept:
    """And the list, if one was made, was made at that time."""
    done = carry_out(made.prefix, plan(made.prefix, now_us))
    date_lists(made)
    return done


def date_lists(made: Maker) -> None:
    for key in made.keys("v1/garbage/"):
        made.date(key, parse_garbage_key(key) or 0)


class Uploads(DirectoryBucket):
    """With uploads of parts that were never finished, as a store has them. `refusal`: it does not let us."""

    def __init__(self, root: Path, refusal: str = "") -> None:
        super().__init__(root)
        self.asked: list[tuple[str, float]] = []
        self.refusal = refusal

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        self.asked.append((prefix, before_s))
        if self.refusal:
            raise Refused(self.refusal)
        return 2


@pytest.mark.parametrize("refusal", ["", "AccessDenied"])
def test_uploads_that_were_never_finished(maker: Maker, refusal: str) -> None:
    """Those of blobs that are a day old are aborted. A store that does not let us is no error: everything else is done."""
    plan_then = plan(maker.prefix, NOON_US)
    bucket = Uploads(maker.root, refusal)
    carry_out(Prefix(bucket), plan_then)
    date_lists(maker)
    found = carry_out(Prefix(bucket), plan(Prefix(bucket), LATER_US))
    assert (found.deleted, found.aborted, found.unaborted) == (3, 0 if refusal else 2, refusal)
    assert bucket.asked == [("v1/blobs/", (now_us - DAY_US) / 1e6) for now_us in (NOON_US, LATER_US)]


def blobs(made: Maker) -> set[str]:
    return {parse_blob_key(key) or "" for key in made.keys("v1/blobs/")}


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """A checkpoint of noon, and a file of three pieces that none names (an upload that died)."""
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    made.ship(NOON_US)
    made.checkpoint(NOON_US)
    made.store("lost", bytes(range(256)) * 10, NOON_US)
    return made


LOST = {sha256((bytes(range(256)) * 10)[start : start + PIECE_BYTES]) for start in range(0, 2560, PIECE_BYTES)}


def test_two_sweeps(maker: Maker) -> None:
    """The first lists, those within a day do nothing and write nothing, then they go with the list, and nothing is left to do."""
    found = plan(maker.prefix, NOON_US)
    assert (found.blobs, found.bytes, found.orphans, found.orphan_bytes) == (6, 5060, 3, 2560)
    assert {each.digest for each in found.found} == LOST
    assert sweep(maker, NOON_US) == Swept(3, 0, 0, (), ())
    keys = maker.keys("v1/garbage/")
    assert len(keys) == 1
    for age_us in (MINUTE_US, 12 * HOUR_US, DAY_US - 1, DAY_US, DAY_US + MINUTE_US):
        waiting = plan(maker.prefix, NOON_US + age_us)
        assert (waiting.orphans, waiting.found, waiting.doomed, waiting.ripe) == (3, (), (), ())
        assert sweep(maker, NOON_US + age_us) == Swept(0, 0, 0, (), ())
    assert maker.keys("v1/garbage/") == keys
    assert sweep(maker, LATER_US) == Swept(0, 3, 2560, (), ())
    assert maker.keys("v1/garbage/") == []
    assert blobs(maker) == maker.newest.pieces
    done = plan(maker.prefix, LATER_US + DAY_US)
    assert (done.orphans, done.found, done.doomed, done.ripe, done.missing) == (0, (), (), (), ())


def test_used_again(maker: Maker) -> None:
    """What a checkpoint names meanwhile stays, and its list goes."""
    sweep(maker, NOON_US)
    maker.checkpoint(NOON_US + HOUR_US, {"lost": bytes(range(256)) * 10})
    assert sweep(maker, NOON_US + 3 * DAY_US).deleted == 0
    assert blobs(maker) >= LOST
    assert maker.keys("v1/garbage/") == []


def test_used_again_after_the_plan(maker: Maker) -> None:
    """A checkpoint that came between the plan and the delete holds what it names."""
    sweep(maker, NOON_US)
    old = plan(maker.prefix, LATER_US)
    assert len(old.doomed) == 3
    made = maker.checkpoint(LATER_US, {"lost": bytes(range(256)) * 10})
    for digest in LOST:
        maker.date(blob_key(digest), NOON_US)  # only the manifest says that they are in use
    done = carry_out(maker.prefix, old)
    assert (done.deleted, set(done.spared)) == (0, {blob_key(digest) for digest in LOST})
    assert maker.is_whole(made)


def test_written_again_after_the_plan(maker: Maker) -> None:
    """A checkpoint that is being made has no manifest yet, but has written its blobs again: what is young stays."""
    sweep(maker, NOON_US)
    old = plan(maker.prefix, LATER_US)
    maker.store("lost", bytes(range(256)) * 10, LATER_US - HOUR_US)
    done = carry_out(maker.prefix, old)
    assert (done.deleted, len(done.spared)) == (0, 3)
    assert blobs(maker) >= LOST


def test_written_again_before_the_plan(maker: Maker) -> None:
    """An upload that died twice begins anew: listed again, gone a day later."""
    sweep(maker, NOON_US)
    maker.store("lost", bytes(range(256)) * 10, LATER_US - HOUR_US)
    assert sweep(maker, LATER_US) == Swept(3, 0, 0, (), ())
    assert len(maker.keys("v1/garbage/")) == 1
    assert sweep(maker, LATER_US + DAY_US + 10 * MINUTE_US).deleted == 3
    assert maker.keys("v1/garbage/") == []


def test_an_old_blob_found_for_the_first_time(maker: Maker) -> None:
    """However old it is, one sweep is not enough."""
    assert sweep(maker, NOON_US + 100 * DAY_US) == Swept(3, 0, 0, (), ())
    assert blobs(maker) >= LOST


def test_a_list_that_the_store_calls_young(maker: Maker) -> None:
    """Its name tells our clock, which may have been wrong."""
    sweep(maker, NOON_US)
    for key in maker.keys("v1/garbage/"):
        maker.date(key, LATER_US - HOUR_US)
    assert carry_out(maker.prefix, plan(maker.prefix, LATER_US)) == Swept(0, 0, 0, (), ())


def test_a_list_that_our_clock_calls_young(maker: Maker) -> None:
    """The store's clock may be behind."""
    sweep(maker, LATER_US)
    for key in maker.keys("v1/garbage/"):
        maker.date(key, NOON_US)
    assert carry_out(maker.prefix, plan(maker.prefix, LATER_US + HOUR_US)) == Swept(0, 0, 0, (), ())
    assert blobs(maker) >= LOST


def test_which_manifests_count(maker: Maker) -> None:
    """A claim on a checkpoint that was pruned holds nothing, unless it is the newest."""
    first = maker.newest
    maker.claim(NOON_US)
    (maker.root / manifest_key(first.generation)).unlink()
    held = plan(maker.prefix, LATER_US)
    assert {each.digest for each in held.found} == LOST
    assert maker.is_whole(maker.newest)
    maker.checkpoint(NOON_US)
    freed = plan(maker.prefix, LATER_US)
    assert {each.digest for each in freed.found} == LOST | first.pieces


def test_what_two_generations_share(maker: Maker) -> None:
    """A blob is free when the last checkpoint that names it is gone."""
    shared, own = b"s" * 1500, b"o" * 1500
    a = maker.checkpoint(NOON_US, {"sealed": shared, "data": own})
    b = maker.checkpoint(NOON_US, {"sealed": shared})
    (maker.root / manifest_key(a.generation)).unlink()
    found = {each.digest for each in plan(maker.prefix, NOON_US).found}
    assert found == LOST | (a.pieces - b.pieces)
    assert len(a.pieces - b.pieces) == 2


def test_other_files_are_left_alone(maker: Maker) -> None:
    for key in ("v1/blobs/README", "v1/blobs/ab/" + "c" * 64, "v1/garbage/notes"):
        maker.bucket.replace(key, b"?")
        maker.date(key, NOON_US)
    sweep(maker, NOON_US)
    sweep(maker, LATER_US)
    assert maker.keys("v1/blobs/README") and maker.keys("v1/blobs/ab/" + "c" * 64) and maker.keys("v1/garbage/notes")  # noqa: PT018 - all three


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"\xff", b"[1]"])
def test_a_damaged_list(maker: Maker, body: bytes) -> None:
    """It allows nothing. It goes when it is old, and what was on it is found anew."""
    sweep(maker, NOON_US)
    (key,) = maker.keys("v1/garbage/")
    maker.bucket.replace(key, body)
    maker.date(key, NOON_US)
    assert sweep(maker, LATER_US) == Swept(3, 0, 0, (), ())
    assert len(maker.keys("v1/garbage/")) == 1
    assert key not in maker.keys("v1/garbage/")
    assert sweep(maker, LATER_US + 2 * DAY_US).deleted == 3


def test_a_damaged_manifest_stops_it(maker: Maker) -> None:
    sweep(maker, NOON_US)
    key = manifest_key(2)
    maker.bucket.replace(key, maker.bucket.get(key)[:-1])
    with pytest.raises(Corrupt, match=key):
        plan(maker.prefix, LATER_US)
    assert blobs(maker) >= LOST


def test_a_damaged_manifest_after_the_plan_stops_it(maker: Maker) -> None:
    sweep(maker, NOON_US)
    old = plan(maker.prefix, LATER_US)
    key = manifest_key(2)
    maker.bucket.replace(key, maker.bucket.get(key)[:-1])
    with pytest.raises(Corrupt, match=key):
        carry_out(maker.prefix, old)
    assert blobs(maker) >= LOST


def test_a_blob_that_is_missing(maker: Maker) -> None:
    """A loss is seen on the way."""
    gone = min(maker.newest.pieces)
    (maker.root / blob_key(gone)).unlink()
    assert plan(maker.prefix, NOON_US).missing == (gone,)


@pytest.mark.parametrize(("name", "visit"), [("sweep.listed", 1), ("sweep.deleted", 1), ("sweep.deleted", 3), ("sweep.finished", 1)])
def test_dying(maker: Maker, die_at: dict[str, int], name: str, visit: int) -> None:
    """At any step of the second sweep: the old plan can be carried out again, and so can a new one; both end at the same."""
    sweep(maker, NOON_US)
    maker.store("more", b"m" * 500, LATER_US - HOUR_US)
    old = plan(maker.prefix, LATER_US)
    assert (len(old.found), len(old.doomed), len(old.ripe)) == (1, 3, 1)
    die_at[name] = visit
    with pytest.raises(Death):
        carry_out(maker.prefix, old)
    die_at.clear()
    date_lists(maker)
    assert maker.is_whole(maker.newest)
    assert len(blobs(maker) & LOST) == (3 if name == "sweep.listed" else 0 if name == "sweep.finished" else 3 - visit)
    assert old.found_key in maker.keys("v1/garbage/")
    sweep(maker, LATER_US + MINUTE_US)
    carry_out(maker.prefix, old)
    assert blobs(maker) & LOST == set()
    assert maker.keys("v1/garbage/") == [old.found_key]
    date_lists(maker)
    sweep(maker, LATER_US + 2 * DAY_US)
    assert blobs(maker) == maker.newest.pieces
    assert maker.keys("v1/garbage/") == []


class Liar:
    """Says that it deleted blobs, and did not."""

    def __init__(self, made: Maker) -> None:
        self._inner = made.bucket
        self.lies = True

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def delete(self, key: str) -> bool:
        return not self.lies and self._inner.delete(key)


def test_a_store_that_does_not_delete(maker: Maker) -> None:
    """What is still there is told, its list stays, and it is tried again until it is gone."""
    sweep(maker, NOON_US)
    liar = Liar(maker)
    prefix = Prefix(liar)  # type: ignore[arg-type]  # the rest is passed on
    for _ in range(2):
        done = carry_out(prefix, plan(prefix, LATER_US))
        assert (done.listed, done.deleted, set(done.undeleted)) == (0, 0, {blob_key(digest) for digest in LOST})
        assert len(maker.keys("v1/garbage/")) == 1
    liar.lies = False
    assert carry_out(prefix, plan(prefix, LATER_US)) == Swept(0, 3, 2560, (), ())
    assert maker.keys("v1/garbage/") == []


def test_an_empty_prefix(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bucket")
    assert plan(made.prefix, NOON_US) == SweepPlan(NOON_US, 0, 0, 0, 0)
    assert sweep(made, NOON_US) == Swept(0, 0, 0, (), ())


WHAT = ["checkpoint", "same", "claim", "leave", "lost", "prune", "sweep", "sweep"]
STEPS = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 30 * 60), st.integers(0, 6)), max_size=25)


@given(STEPS)
@settings(max_examples=15, deadline=None)
def test_any_history(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]) -> None:
    """Whatever happened: no checkpoint that is there lacks a blob, and in the end all that nobody names is gone.

    `same` is a checkpoint with a file of few different contents, so that blobs come into use again at every age.
    """
    made = Maker(tmp_path_factory.mktemp("bucket"))
    made.begin(NOON_US)
    made.checkpoint(NOON_US)
    now_us = NOON_US
    for what, minutes, content in steps:
        now_us += minutes * MINUTE_US + 1
        match what:
            case "same":
                made.checkpoint(now_us, {"sealed": bytes([content]) * 1500})
            case "lost":
                made.store("sealed", bytes([content]) * 1500, now_us)
            case "prune":
                carry_out_prune(made.prefix, plan_prune(made.prefix, now_us))
            case "sweep":
                sweep(made, now_us)
            case _:
                getattr(made, what)(now_us)
        _require_whole(made)
    for _ in range(2):
        now_us += 2 * DAY_US
        sweep(made, now_us)
    _require_whole(made)
    found = plan(made.prefix, now_us)
    assert (found.orphans, found.missing, made.keys("v1/garbage/")) == (0, (), [])


def _require_whole(made: Maker) -> None:
    there = [made.prefix.manifest(generation) for generation in made.prefix.generations()]
    assert all(made.is_whole(each) for each in there if each.kind == "checkpoint" or each is there[-1])
