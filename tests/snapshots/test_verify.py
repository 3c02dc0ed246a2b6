"""Verifying: what is right is found right, and every kind of damage is a sentence that names the object."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshots.addresses import open_bucket
from snapshots.bucket import Bucket
from snapshots.damaged import Break, Noted
from snapshots.errors import Missing, SnapshotError, Unreachable
from snapshots.fetch import Progress
from snapshots.history import restore_point
from snapshots.log import Place
from snapshots.manifest import Manifest, seal
from snapshots.mark import FORMAT, Mark
from snapshots.paths import HINT, blob_key, log_key, manifest_key
from snapshots.pins import pin
from snapshots.prefix import Prefix
from snapshots.prune import carry_out, plan
from snapshots.verify import Report, _sample, verify
from tests.snapshots.fakes import PlannedBucket
from tests.snapshots.prefixes import DAY_US, HOUR_US, MINUTE_US, NOON_US, Maker
from tests.stores import moto_store

NOW_US = NOON_US + 2 * HOUR_US


def check(made: Maker, generation: int | None = None, share: float = 1.0, seed: int = 0, now_us: int = NOW_US) -> Report:
    return verify(made.prefix, generation, share, seed, Progress(), now_us)


def problem(made: Maker, *words: str, generation: int | None = None, now_us: int = NOW_US) -> None:
    """There is one problem, and it says these words."""
    found = check(made, generation, now_us=now_us).problems
    assert len(found) == 1, found
    assert all(word in found[0] for word in words), found


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Generations: 1 began empty, 2 and 3 are checkpoints behind log objects 2 and 4, 4 is a claim; the log ends at 7."""
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    made.ship(NOON_US, rows=3)
    made.checkpoint(NOON_US + MINUTE_US, {"data.mdb": b"a" * 2500, "sealed": b"s" * 1500})
    made.ship(NOON_US + HOUR_US, rows=2)
    made.ship(NOON_US + HOUR_US)
    made.checkpoint(NOON_US + HOUR_US, {"data.mdb": b"b" * 2500, "sealed": b"s" * 1500})
    made.ship(NOON_US + HOUR_US)
    made.claim(NOON_US + HOUR_US)
    made.ship(NOON_US + HOUR_US)
    return made


def damage(made: Maker, key: str, at: int = 0) -> None:
    body = bytearray(made.bucket.get(key))
    body[at] ^= 1
    made.bucket.replace(key, bytes(body))


def test_what_is_right(maker: Maker) -> None:
    """All of it is read: 3 + 2 pieces, of which many are the same."""
    found = check(maker)
    size = sum((maker.root / key).stat().st_size for key in maker.keys(f"v1/log/{maker.lineage}/"))
    assert found == Report(
        generation=None,
        manifests=4,
        blobs=6,
        bytes=1000 + 500 + 1000 + 500 + 1000 + 500,
        read_blobs=6,
        read_bytes=4500,
        log_objects=7,
        log_rows=8,
        log_bytes=size,
        problems=(),
    )


def test_one_generation(maker: Maker) -> None:
    """A claim counts as the checkpoint that it repeats; what only others name is not looked at."""
    for generation, blobs in ((1, 0), (2, 4), (3, 4), (4, 4)):
        found = check(maker, generation)
        assert (found.generation, found.manifests, found.blobs, found.problems) == (generation, 1, blobs, ())
    only_in_two = min(maker.manifests[1].pieces - maker.manifests[2].pieces)
    damage(maker, blob_key(only_in_two))
    assert check(maker, 3).problems == ()
    problem(maker, only_in_two, generation=2)
    with pytest.raises(Missing, match="no generation 9"):
        check(maker, 9)
    (maker.root / manifest_key(3)).unlink()
    maker.checkpoint(NOW_US)
    with pytest.raises(Missing, match="stands on the checkpoint 3, which was pruned"):
        check(maker, 4)


def test_blobs(maker: Maker) -> None:
    """Damaged, missing, cut, and too long."""
    digests = sorted(maker.manifests[1].pieces | maker.manifests[2].pieces)
    damage(maker, blob_key(digests[0]), 77)
    (maker.root / blob_key(digests[1])).unlink()
    body = maker.bucket.get(blob_key(digests[2]))
    maker.bucket.replace(blob_key(digests[2]), body[:-1])
    maker.bucket.replace(blob_key(digests[3]), maker.bucket.get(blob_key(digests[3])) + b"x")
    assert check(maker).damaged == tuple(digests[:4])
    problems = sorted(check(maker).problems)
    assert [each.partition(" key=")[0] for each in problems] == [
        "blob differs from its digest",
        "blob has another size than its manifest says",
        "blob has another size than its manifest says",
        "blob is missing",
    ]
    assert {each.partition(" key=")[2].partition(" ")[0] for each in problems} == {blob_key(digest) for digest in digests[:4]}


def test_manifests(maker: Maker) -> None:
    """Damaged, and of a version that we do not know; the others are looked at all the same."""
    damage(maker, manifest_key(2), 200)
    maker.bucket.replace(manifest_key(1), b'{"format":9}')
    found = check(maker)
    assert found.manifests == 2
    assert "format 9" in found.problems[0]
    assert manifest_key(2) in found.problems[1]
    assert len(found.problems) == 2


def test_nothing_is_there(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bucket")
    problem(made, "holds no manifest")


def test_the_newest_manifest_is_gone(maker: Maker) -> None:
    """The hint still names it."""
    (maker.root / manifest_key(4)).unlink()
    problem(maker, "the hint names generation 4, the newest manifest is 3")


def test_the_format_is_gone(maker: Maker) -> None:
    (maker.root / "v1/format.json").unlink()
    problem(maker, "v1/format.json")


def test_a_pin_that_dangles(maker: Maker) -> None:
    pin(maker.prefix, "release", 2, None, NOW_US)
    (maker.root / manifest_key(2)).unlink()
    problem(maker, "the pin release names generation 2")


@pytest.mark.parametrize("number", range(1, 8))
def test_a_damaged_log_object(maker: Maker, number: int) -> None:
    key = log_key(maker.lineage, number)
    damage(maker, key, 300)
    problem(maker, key)


@pytest.mark.parametrize(("number", "meaning"), [(4, "not every moment"), (5, "newest state"), (6, "newest state")])
def test_a_hole_in_the_log(maker: Maker, number: int, meaning: str) -> None:
    """A fence is missed as well."""
    (maker.root / log_key(maker.lineage, number)).unlink()
    problem(maker, "missing", meaning, maker.lineage)


def test_the_end_of_the_log_is_gone(maker: Maker) -> None:
    """Also what the newest base stands on: another base is needed, and the moments before this one are told of."""
    for number in range(4, 8):
        (maker.root / log_key(maker.lineage, number)).unlink()
    found = check(maker)
    assert "not every moment" in found.problems[0]
    assert "ends before object 5, which was there: the newest state cannot be restored" in found.problems[1]
    assert len(found.problems) == 2
    assert found.broken == Break(maker.lineage, 5)
    assert found.broken.is_behind(maker.newest)


@pytest.mark.parametrize("gone", [[7], [1, 2, 3, 4, 5, 6, 7]], ids=["last", "all"])
def test_a_log_that_a_checkpoint_needs_no_more(maker: Maker, gone: list[int]) -> None:
    """Nothing was ever shipped behind it: what is gone before it, by damage that it mended or by a rule of the bucket, is no trouble once
    the window has passed."""
    maker.checkpoint(NOW_US)
    for number in gone:
        assert maker.bucket.delete(log_key(maker.lineage, number))
    problem(maker, "not every moment")
    assert check(maker).broken is None
    assert check(maker, now_us=NOW_US + 2 * DAY_US).problems == ()
    maker.ship(NOW_US)
    assert check(maker, now_us=NOW_US + 2 * DAY_US).problems == ()


def test_an_end_that_only_its_owner_knows(maker: Maker) -> None:
    """The hint is as old as the last checkpoint; the mark of the one who asks is not. One of another lineage says nothing."""
    mark = Mark(FORMAT, maker.lineage, maker.epoch, maker.writer, maker.end)
    foreign = msgspec.structs.replace(mark, lineage="e" * 32)
    assert maker.bucket.delete(log_key(maker.lineage, 7))
    for told, broken in ((None, None), (foreign, None), (mark, Break(maker.lineage, 7))):
        found = verify(maker.prefix, None, 1.0, 0, Progress(), NOW_US, mark=told)
        assert found.broken == broken
        assert len(found.problems) == int(broken is not None)


def test_a_hole_and_the_end_are_gone(maker: Maker) -> None:
    """A hole before the newest base hides nothing of what was lost behind it."""
    maker.prefix.update_hint(maker.newest, maker.end.number, NOW_US)
    for number in (3, 7):
        assert maker.bucket.delete(log_key(maker.lineage, number))
    assert check(maker).broken == Break(maker.lineage, 7)


def test_an_object_that_is_linked_to_another(maker: Maker) -> None:
    """Whole in itself, but of another history."""
    other = Maker(maker.root.parent / "other", seed=1)
    other.lineage = maker.lineage
    other.begin(NOON_US)
    other.ship(NOON_US, rows=3)
    maker.bucket.replace(log_key(maker.lineage, 2), other.bucket.get(log_key(maker.lineage, 2)))
    problem(maker, "log chain is broken number=2")


def test_a_manifest_that_names_another_log_object(maker: Maker) -> None:
    _replace(maker, 3, Place(4, "f" * 64, 6))
    problem(maker, "names another log object", log_key(maker.lineage, 4))


def _replace(made: Maker, generation: int, log: Place) -> None:
    """The manifest with another place, and its digest right."""
    wrong: Manifest = msgspec.structs.replace(made.prefix.manifest(generation), log=log)
    made.bucket.replace(manifest_key(generation), seal(wrong)[1])


def test_a_base_behind_the_end_of_the_log(maker: Maker) -> None:
    """A manifest that says it has more than was ever shipped."""
    maker.checkpoint(NOW_US)
    wrong = msgspec.structs.replace(maker.prefix.manifest(5), base_sequence=13)
    maker.bucket.replace(manifest_key(5), seal(wrong)[1])
    problem(maker, f"the log of lineage {maker.lineage} ends at request 8, a base has 13")


def test_after_a_prune(tmp_path: Path) -> None:
    """What retention took is not missed; one object more is."""
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    for hour in range(60):
        made.ship(NOON_US + hour * HOUR_US)
        made.checkpoint(NOON_US + hour * HOUR_US)
        made.ship(NOON_US + hour * HOUR_US)
    now_us = NOON_US + 59 * HOUR_US + MINUTE_US
    done = plan(made.prefix, now_us)
    carry_out(made.prefix, done)
    assert len(done.log) > 20
    found = check(made, now_us=now_us)
    assert found.problems == ()
    assert found.log_objects >= 48
    after_us = now_us + DAY_US
    assert check(made, now_us=after_us).problems == ()
    base = next(each for each in made.manifests if each.created_us == NOON_US + 35 * HOUR_US)
    (made.root / log_key(made.lineage, base.log.number)).unlink()
    assert check(made, now_us=now_us).problems == (), "the place itself is not replayed"
    (made.root / log_key(made.lineage, base.log.number + 1)).unlink()
    problem(made, "missing", "not every moment", now_us=now_us)
    assert check(made, now_us=after_us).problems == ()


def test_an_index_that_began_empty(tmp_path: Path) -> None:
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    assert check(made).problems == ()
    made.ship(NOON_US)
    assert check(made, now_us=NOON_US + 9 * DAY_US).problems == ()
    (made.root / log_key(made.lineage, 1)).unlink()
    problem(made, "newest state")


def test_a_lineage_that_was_left(maker: Maker) -> None:
    """Only the newest lineage's log is read."""
    left = maker.lineage
    maker.leave(NOW_US)
    maker.ship(NOW_US)
    (maker.root / log_key(left, 3)).unlink()
    assert check(maker).problems == ()
    assert check(maker).log_objects == 2


@given(st.dictionaries(st.text("abcdef", min_size=4, max_size=4), st.integers(1, 1000), max_size=50), st.floats(0, 1), st.integers())
def test_samples(sizes: dict[str, int], share: float, seed: int) -> None:
    """At least the share of the bytes, no blob more than needed, at least one; the same again with the same seed."""
    chosen = _sample(sizes, share, seed)
    assert chosen == _sample(sizes, share, seed)
    assert chosen.items() <= sizes.items()
    assert bool(chosen) == bool(sizes)
    total = sum(sizes.values())
    assert sum(chosen.values()) >= share * total
    if len(chosen) > 1:
        assert sum(chosen.values()) - chosen[list(chosen)[-1]] < share * total
    assert _sample(sizes, 1.0, seed) == sizes


def test_samples_find_damage_in_the_end(maker: Maker) -> None:
    """Each seed reads other blobs."""
    damage(maker, blob_key(min(maker.newest.pieces)))
    found = [check(maker, share=0.01, seed=seed) for seed in range(60)]
    assert {each.read_blobs for each in found} == {1}
    assert {len(each.problems) for each in found} == {0, 1}


def test_progress(maker: Maker) -> None:
    progress = Progress()
    verify(maker.prefix, None, 1.0, 0, progress, NOW_US)
    assert progress.phase == "reading the log"
    assert progress.bytes_done > 0


class Failing:
    """A bucket in which some objects cannot be read, though they are listed."""

    def __init__(self, inner: Bucket, prefix: str, error: SnapshotError) -> None:
        self._inner = inner
        self._prefix = prefix
        self._error = error

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if key.startswith(self._prefix):
            raise self._error
        return self._inner.get(key, start, length)


def test_no_answer_is_no_damage(maker: Maker) -> None:
    bucket = Failing(maker.bucket, "v1/blobs/", Unreachable("no answer"))
    with pytest.raises(Unreachable):
        verify(Prefix(bucket), None, 1.0, 0, Progress(), NOW_US)  # type: ignore[arg-type]  # the rest is passed on


@pytest.mark.parametrize("key", ["v1/blobs/", "v1/log/"])
def test_listed_and_not_there(maker: Maker, key: str) -> None:
    """A store that lost an object and does not know it."""
    key = next(iter(maker.keys(key)))
    bucket = Failing(maker.bucket, key, Missing("no such object"))
    found = verify(Prefix(bucket), None, 1.0, 0, Progress(), NOW_US)  # type: ignore[arg-type]  # the rest is passed on
    assert [key in each for each in found.problems] == [True]


def test_a_claim_whose_checkpoint_was_pruned(maker: Maker) -> None:
    """Its files were swept: nobody misses them."""
    maker.checkpoint(NOW_US)
    (maker.root / manifest_key(3)).unlink()
    for digest in maker.manifests[2].pieces - maker.manifests[1].pieces:
        (maker.root / blob_key(digest)).unlink()
    assert check(maker).problems == ()


def test_in_s3(maker: Maker) -> None:
    """What a directory holds, copied to S3, is right there too, and can be restored from there."""
    with moto_store() as store:
        bucket = open_bucket(store.url, store.environment)
        for entry in maker.bucket.list(""):
            assert bucket.create(entry.key, maker.bucket.get(entry.key))
        assert verify(Prefix(bucket), None, 1.0, 0, Progress(), NOW_US) == check(maker)
        assert restore_point(Prefix(bucket), at_us=NOW_US) == restore_point(maker.prefix, at_us=NOW_US)
        key = blob_key(min(maker.newest.pieces))
        assert bucket.delete(key)
        assert [key in each for each in verify(Prefix(bucket), None, 1.0, 0, Progress(), NOW_US).problems] == [True]
        bucket.close()


def test_nothing_is_written(maker: Maker) -> None:
    keys = [(entry.key, entry.modified_s) for entry in maker.bucket.list("")]
    check(maker)
    assert [(entry.key, entry.modified_s) for entry in maker.bucket.list("")] == keys
    assert HINT in {key for key, _ in keys}


@pytest.mark.parametrize("number", range(1, 8))
@pytest.mark.parametrize("spoil", [damage, lambda made, key: made.bucket.delete(key)], ids=["damaged", "missing"])
def test_where_the_log_breaks(maker: Maker, number: int, spoil: Callable[[Maker, str], object]) -> None:
    """Behind the newest checkpoint, which stands behind object 4, only another checkpoint helps; also when it breaks earlier as well. A
    last object that is missing leaves no trace."""
    spoil(maker, log_key(maker.lineage, number))
    is_lost_end = number == 7 and not maker.bucket.head(log_key(maker.lineage, 7))
    expected = Break(maker.lineage, number) if number > 4 and not is_lost_end else None
    assert check(maker).broken == expected
    assert check(maker).noted == Noted(frozenset(), frozenset([expected] if expected else []))
    damage(maker, log_key(maker.lineage, 2)) if number != 2 else None
    assert check(maker).broken == expected


def test_the_last_log_objects_are_gone(maker: Maker) -> None:
    """Nothing stands behind them that would tell; but the owner left a hint of how far the log went."""
    maker.prefix.update_hint(maker.newest, maker.end.number, NOW_US)
    assert check(maker).problems == ()
    for number in (7, 6):
        assert maker.bucket.delete(log_key(maker.lineage, number))
        problem(maker, f"the log of lineage {maker.lineage} ends before object 7, which was there")
        assert check(maker).broken == Break(maker.lineage, 7)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_pruned_meanwhile(maker: Maker, at: int) -> None:
    """The owner prunes while another process reads: what went from the beginning of the log is no damage, what is damaged behind it is."""
    bucket = PlannedBucket(maker.bucket)

    def prune(name: str, key: str) -> None:
        if (name, key) == ("get", log_key(maker.lineage, at)):
            for number in (2, 3):
                maker.bucket.delete(log_key(maker.lineage, number))

    bucket.gate = prune
    later_us = NOON_US + 30 * HOUR_US
    found = verify(Prefix(bucket), None, 1.0, 0, Progress(), later_us)
    assert (found.problems, found.log_objects, found.broken) == ((), 3, None)
    damage(maker, log_key(maker.lineage, 6))
    found = verify(Prefix(bucket), None, 1.0, 0, Progress(), later_us)
    assert (len(found.problems), found.log_objects, found.broken) == (1, 1, Break(maker.lineage, 6))


def test_suspects_are_read_each_time(maker: Maker) -> None:
    """However small the share is; what no manifest names is left out, and what is missing is told once."""
    digests = sorted(maker.manifests[2].pieces)
    suspects = frozenset([*digests[:2], "0" * 64])
    damage(maker, blob_key(digests[0]))
    for seed in range(20):
        found = verify(maker.prefix, None, 0.0, seed, Progress(), NOW_US, suspects=suspects)
        assert digests[0] in found.damaged
        assert 2 <= found.read_blobs <= 3
    (maker.root / blob_key(digests[1])).unlink()
    found = verify(maker.prefix, None, 0.0, 0, Progress(), NOW_US, suspects=suspects)
    assert found.damaged == tuple(digests[:2])
    assert len(found.problems) == 2
