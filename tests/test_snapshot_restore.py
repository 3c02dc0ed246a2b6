"""`tidepool snapshot restore`: what was there then, exactly, and nothing lost for it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path

import pytest

from service.boot.arrival import Arrival
from service.boot.terms import options
from service.engine.files import DirectoryLock
from service.engine.requests import DeleteAsset
from snapshots.directory import DirectoryBucket
from snapshots.errors import Corrupt
from snapshots.mark import read_mark
from snapshots.prefix import Prefix
from snapshots.start import Allowed
from tests.commanding import EPOCH, INDEX, ROWS, Place, Story, assets, commit, history, iso, require_error, story_in, tree
from tests.engine.building import key


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Made once."""
    with story_in(tmp_path_factory.mktemp("story")) as made:
        yield made


def test_restore_the_newest(story: Story, tmp_path: Path) -> None:
    """A copy with all of it, as a lineage of its own, and the words how to serve it."""
    target = tmp_path / "copy"
    ran = story.place.run("restore", "--target", target)
    assert ran.code == 0
    assert f"ISCC_SEARCH_INDEX_URI={target} tidepool serve --adopt-local" in ran.out
    assert assets(target) == story.states[ROWS]
    copied, original = read_mark(target / "live"), read_mark(story.place.directory / "live")
    assert copied is not None
    assert original is not None
    assert copied.lineage != original.lineage
    assert copied.parent is not None
    assert (copied.parent.lineage, copied.parent.sequence) == (original.lineage, ROWS)
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("sequence", [0, 1, 5, ROWS // 2, ROWS // 2 + 1, ROWS - 1, ROWS])
def test_restore_a_sequence(story: Story, tmp_path: Path, sequence: int) -> None:
    """Exactly what was there after that request."""
    ran = story.place.run("restore", "--target", tmp_path / "copy", "--sequence", sequence, "--json")
    assert (ran.code, ran.json["sequence"]) == (0, sequence)
    assert assets(tmp_path / "copy") == (story.states[sequence] if sequence else None)


@pytest.mark.parametrize("sequence", [2, ROWS // 2, ROWS - 3])
def test_restore_a_time(story: Story, tmp_path: Path, sequence: int) -> None:
    """At the time of a commit it is there, a microsecond before it is not; whatever zone the time is written in."""
    at_us = story.times[sequence]
    there = story.place.run("restore", "--target", tmp_path / "there", "--at", iso(at_us))
    assert there.code == 0, there
    assert assets(tmp_path / "there") == story.states[sequence]
    moved = (EPOCH + timedelta(microseconds=at_us - 1)).astimezone(timezone(timedelta(hours=-5, minutes=-30))).isoformat()
    before = story.place.run("restore", "--target", tmp_path / "before", "--at", moved, "--json")
    assert before.json["sequence"] == sequence - 1
    assert assets(tmp_path / "before") == story.states[sequence - 1]


def test_restore_a_generation(story: Story, tmp_path: Path) -> None:
    """As it was made, without the log behind it."""
    assert story.place.run("restore", "--target", tmp_path / "copy", "--generation", 2).code == 0
    assert assets(tmp_path / "copy") == story.states[ROWS // 2]


def test_restore_a_generation_and_its_log(story: Story, tmp_path: Path) -> None:
    """From an earlier checkpoint to the end, past a newer one that may be damaged."""
    ran = story.place.run("restore", "--target", tmp_path / "copy", "--generation", 1, "--replay", "--json")
    assert (ran.code, ran.json["sequence"], ran.json["replayed"]) == (0, ROWS, ROWS)
    assert assets(tmp_path / "copy") == story.states[ROWS]
    alone = story.place.run("restore", "--target", tmp_path / "other", "--replay")
    assert (alone.code, "--replay goes with --generation" in alone.err) == (2, True)


def test_restore_what_is_not_there(story: Story, tmp_path: Path) -> None:
    """3, with what can be restored instead, and no trace of a target."""
    target = tmp_path / "copy"
    restore = ["restore", "--target", target]
    require_error(story.place.run(*restore, "--sequence", ROWS + 1), 3, f"ends at {ROWS}")
    require_error(story.place.run(*restore, "--generation", 99), 3, "has no generation 99")
    require_error(story.place.run(*restore, "--at", "2001-01-01T00:00:00Z"), 3, "the oldest time that can be restored is")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wanted", [[], ["--sequence", "7"], ["--generation", "2"], ["--at", "2100-01-01T00:00:00Z"]])
def test_a_dry_restore_changes_nothing(story: Story, tmp_path: Path, wanted: list[str]) -> None:
    """It says from where, how many bytes and rows, and the room."""
    before = tree(story.place.root)
    ran = story.place.run("restore", "--target", tmp_path / "copy", "--dry-run", *wanted)
    assert ran.code == 0
    assert ran.out.endswith("nothing was changed\n")
    assert tree(story.place.root) == before
    assert list(tmp_path.iterdir()) == []
    found = story.place.run("restore", "--target", tmp_path / "copy", "--dry-run", "--json", *wanted).json
    expected = {"": (2, ROWS // 2), "--sequence": (1, 7), "--generation": (2, 0), "--at": (2, ROWS // 2)}[wanted[0] if wanted else ""]
    assert (found["generation"], found["rows_max"]) == expected
    assert found["room_needed"] > found["bytes"] + found["log_bytes_max"]
    assert found["room_free"] > 0


def test_the_way_out_of_a_lost_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start on an empty disk refuses and names two commands. Those, with an empty disk each time, bring back what is left."""
    place = Place(tmp_path, monkeypatch, LOG_INTERVAL=0.05)
    with place.owned() as open_:
        states = history(open_, 6)
        open_.keeper.wait_shipped(6)
        commit(open_, DeleteAsset(INDEX, 0, key(6)))
        open_.keeper.wait_shipped(7)
    log = sorted((place.bucket / "v1" / "log").glob("*/*.log"))
    log[-1].unlink()
    shutil.rmtree(place.directory)
    with pytest.raises(Corrupt) as refused, place.owned():
        pass
    assert "`tidepool snapshot restore --target DIRECTORY`, and start once from there with `tidepool serve --adopt-local`" in str(
        refused.value
    )
    shutil.rmtree(place.directory)
    copy = tmp_path / "copy"
    for dry in (["--dry-run"], []):
        ran = place.run("restore", "--target", copy, *dry)
        assert ran.code == 0
        assert re.fullmatch(r"tidepool: the log of .* went on to object \d+, which is missing: the end of the log is lost.*\n", ran.err)
    assert assets(copy) == states[6]
    prefix = Prefix(DirectoryBucket(place.bucket))
    with DirectoryLock(copy) as lock:
        allowed = Allowed(create=False, serve_unreachable=False, adopt="local")
        Arrival(copy, lock, prefix, options(place.settings), allowed, lambda *_: None, lambda *_: None).run().engine.close()
    with place.owned():
        pass
    assert assets(place.directory) == states[6]
    assert place.run("restore", "--target", tmp_path / "again").err == ""
    assert place.run("verify", "--full").code == 0


def test_a_target_that_is_taken(story: Story, tmp_path: Path) -> None:
    """Refused, dry too, and untouched; with --force it is replaced, at the very end."""
    target = tmp_path / "copy"
    target.mkdir()
    (target / "theirs").write_text("precious")
    for dry in ([], ["--dry-run"]):
        require_error(story.place.run("restore", "--target", target, *dry), 78, "is not empty: choose another directory, or give --force")
    failed = story.place.run("restore", "--target", target, "--force", "--sequence", ROWS + 1)
    assert failed.code == 3
    assert story.place.run("restore", "--target", target, "--force", "--dry-run").code == 0
    assert (target / "theirs").read_text() == "precious"
    assert story.place.run("restore", "--target", target, "--force").code == 0
    assert not (target / "theirs").exists()
    assert assets(target) == story.states[ROWS]
    before = tree(target)
    assert story.place.run("restore", "--target", target, "--force", "--dry-run", "--sequence", 3).code == 0
    assert tree(target) == before
    assert story.place.run("restore", "--target", target, "--force", "--sequence", 3).code == 0
    assert assets(target) == story.states[3]
    (tmp_path / "empty").mkdir()
    assert story.place.run("restore", "--target", tmp_path / "empty").code == 0


def test_what_force_never_replaces(story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket, what holds it or lies in it, the directory above the data, a directory in use."""
    place = story.place
    before = tree(place.root)
    for target in (place.bucket, place.bucket / "v1", place.root, Path("/")):
        for dry in ([], ["--dry-run"]):
            assert place.run("restore", "--force", "--target", target, *dry).code == 78, target
    require_error(place.run("restore", "--force", "--target", place.bucket), 78, "must not be one in the other")
    held = Place(tmp_path, monkeypatch)
    with held.owned():
        ran = place.run("restore", "--force", "--target", held.directory)
    require_error(ran, 78, "a process uses the data in")
    assert tree(place.root) == before
