"""Checkpoints: a manifest names only what is there; each step may be killed and done again; who lost the prefix leaves no manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import pytest

from snapshots.errors import Corrupt, Fenced, Rotten, Unreachable
from snapshots.fetch import Progress, fetch
from snapshots.files import REST, STEP_BYTES, sha256
from snapshots.log import Place
from snapshots.manifest import EMPTY_LOG, Manifest
from snapshots.paths import blob_key, manifest_key
from snapshots.prefix import Prefix
from snapshots.publish import YOUNG_S, Owner, Published, publish
from tests.snapshots.fakes import FilesSource, PlannedBucket, deaths, dying_at, files_of
from tests.snapshots.machine import Machine, bucket_in, in_memory, the_log

PIECE = 1000
SIZES = {"data.mdb": 4321, "segments/a": 700, "segments/b": PIECE, "segments/c": 0, "segments/d": 2 * PIECE, "segments/e": 1}
OWNER = Owner("1" * 32, 1, "w" * 32, "host", None)
PLACES = ["publish.copied", "publish.hashed", "publish.blob", "publish.uploaded", "publish.manifest", "publish.hint"]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root, deaths():
        yield root


class Publisher:
    """Makes checkpoints of a folder without a log."""

    def __init__(self, root: Path, owner: Owner = OWNER) -> None:
        self.root = root
        self.bucket = PlannedBucket(bucket_in(root))
        self.prefix = Prefix(self.bucket)
        self.source = FilesSource(root / "files", sequence=5)
        self.newest: Manifest | None = None
        self.owner = owner
        self.waited: list[int] = []
        self.piece_bytes = PIECE

    def publish(self, damaged: Iterable[str] = ()) -> Published:
        made = publish(
            self.prefix,
            self.source,
            self.root / "copy",
            self.newest,
            self.owner,
            lambda: EMPTY_LOG,
            self.waited.append,
            frozenset(damaged),
            piece_bytes=self.piece_bytes,
        )
        self.newest = made.manifest
        return made

    def fetched(self, manifest: Manifest) -> dict[str, bytes]:
        """What a restore gives."""
        folder = self.root / f"fetched-{time.monotonic_ns()}"
        fetch(self.bucket, manifest, folder, Progress())
        return files_of(folder)


def filled(root: Path) -> Publisher:
    publisher = Publisher(root)
    publisher.source.fill(SIZES)
    return publisher


def age(root: Path, digest: str, seconds: float) -> None:
    path = root / "bucket" / blob_key(digest)
    os.utime(path, (time.time() - seconds,) * 2)


def test_a_checkpoint_can_be_fetched(tmp_path: Path) -> None:
    """Every file, to the byte, in pieces; the copy is gone; the hint says where to look."""
    publisher = filled(tmp_path)
    made = publisher.publish()
    assert publisher.fetched(made.manifest) == files_of(publisher.source.folder)
    assert {file.path: (file.size, len(file.pieces)) for file in made.manifest.files} == {
        name: (size, -(-size // PIECE)) for name, size in SIZES.items()
    }
    assert made.uploaded_bytes == made.manifest.bytes == sum(SIZES.values())
    assert made.known_bytes == 0
    assert set(made.seconds) == {"copy", "hash", "upload", "publish"}
    assert publisher.waited == [5]
    assert not (tmp_path / "copy").exists()
    hint = publisher.prefix.hint()
    assert hint is not None
    assert (hint.generation, hint.manifest_digest) == (1, made.manifest.digest)
    assert publisher.prefix.newest() == made.manifest


def test_everything_that_is_named_is_there_first(tmp_path: Path) -> None:
    """The manifest comes after each blob and after the log."""
    publisher = filled(tmp_path)
    order: list[str] = []
    publisher.bucket.gate = lambda name, key: order.append(f"{name} {key[:7]}")
    publish(publisher.prefix, publisher.source, tmp_path / "copy", None, OWNER, lambda: EMPTY_LOG, lambda _: order.append("shipped"))
    assert order[-3:] == ["shipped", "create v1/mani", "replace v1/HEAD"]
    assert {each.split()[0] for each in order[:-3]} == {"head", "put_file"}


def test_blobs_are_uploaded_once(tmp_path: Path) -> None:
    """Equal pieces of one checkpoint, and those of the newest one, which are not even looked for."""
    publisher = Publisher(tmp_path)
    publisher.source.fill({"a": 3 * PIECE, "b": 3 * PIECE})
    (publisher.source.folder / "c").write_bytes((publisher.source.folder / "a").read_bytes())
    assert publisher.publish().uploaded_bytes == 6 * PIECE
    publisher.bucket.calls.clear()
    body = bytearray((publisher.source.folder / "b").read_bytes())
    body[PIECE + 5] ^= 1
    (publisher.source.folder / "b").write_bytes(body)
    made = publisher.publish()
    assert (made.uploaded_bytes, made.known_bytes) == (PIECE, 8 * PIECE)
    assert publisher.bucket.count()["put_file"] == 1
    assert publisher.bucket.count()["head"] == 2
    assert publisher.fetched(made.manifest) == files_of(publisher.source.folder)


@pytest.mark.parametrize("in_newest", [True, False])
def test_damaged_blobs_are_written_again(tmp_path: Path, *, in_newest: bool) -> None:
    """Missing, or there with the right size, a moment ago, and wrong; also when the newest manifest names them. The others are not."""
    publisher = Publisher(tmp_path)
    publisher.source.fill({"missing": 100, "wrong": 100, "whole": 100})
    digests = {name: sha256(body) for name, body in files_of(publisher.source.folder).items()}
    newest = publisher.publish().manifest
    publisher.bucket.delete(blob_key(digests["missing"]))
    publisher.bucket.replace(blob_key(digests["wrong"]), bytes(100))
    if not in_newest:
        publisher.newest = msgspec.structs.replace(newest, files=[])
    publisher.bucket.calls.clear()
    made = publisher.publish([digests["missing"], digests["wrong"], "0" * 64])
    assert sorted(publisher.bucket.keys("put_file")) == sorted(blob_key(digests[name]) for name in ("missing", "wrong"))
    assert publisher.fetched(made.manifest) == files_of(publisher.source.folder)


@pytest.mark.parametrize("place", PLACES)
def test_killed_and_begun_again(tmp_path: Path, place: str) -> None:
    """At every step: no manifest, or a whole one. What was uploaded is not uploaded again."""
    publisher = filled(tmp_path)
    dying_at(place, publisher.publish)
    found = publisher.prefix.newest()
    assert (found is not None) == (place in ("publish.manifest", "publish.hint"))
    if found is not None:
        assert publisher.fetched(found) == files_of(publisher.source.folder)
    publisher.bucket.calls.clear()
    made = publisher.publish()
    assert publisher.fetched(made.manifest) == files_of(publisher.source.folder)
    assert publisher.prefix.newest() == made.manifest
    assert made.manifest.generation == (1 if found is None else 2)
    if place not in ("publish.copied", "publish.hashed", "publish.blob"):
        assert publisher.bucket.count()["put_file"] == 0
    assert not (tmp_path / "copy").exists()


def test_what_a_killed_copy_left_is_removed(tmp_path: Path) -> None:
    """A folder of that name does not get into the next copy."""
    publisher = filled(tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "old").write_bytes(b"x")
    assert "old" not in publisher.fetched(publisher.publish().manifest)


def test_a_blob_that_was_there_long_ago(tmp_path: Path) -> None:
    """Is written again, so that a sweep that has it on its list spares it; a young one is not. One of another size is replaced."""
    publisher = Publisher(tmp_path)
    publisher.source.fill({"old": 100, "young": 100, "cut": 100})
    digests = {name: sha256(body) for name, body in files_of(publisher.source.folder).items()}
    for name, body in files_of(publisher.source.folder).items():
        publisher.bucket.replace(blob_key(digests[name]), body if name != "cut" else body[:-1])
    age(tmp_path, digests["old"], YOUNG_S + 60)
    age(tmp_path, digests["young"], YOUNG_S - 60)
    publisher.bucket.calls.clear()
    made = publisher.publish()
    assert sorted(publisher.bucket.keys("put_file")) == sorted(blob_key(digests[name]) for name in ("old", "cut"))
    entry = publisher.bucket.head(blob_key(digests["old"]))
    assert entry is not None
    assert time.time() - entry.modified_s < 60
    assert publisher.fetched(made.manifest) == files_of(publisher.source.folder)


def test_digests_that_the_source_knows(tmp_path: Path) -> None:
    """Are believed for files of one piece, but not when a blob is made of them: a file that rotted is not stored under its old name."""
    publisher = filled(tmp_path)
    files = files_of(publisher.source.folder)
    publisher.source.told = {name: sha256(body) for name, body in files.items()}
    made = publisher.publish()
    assert publisher.fetched(made.manifest) == files
    publisher.source.told["segments/a"] = "0" * 64
    with pytest.raises(Corrupt, match="differs from its digest"):
        publisher.publish()
    assert publisher.prefix.newest() == made.manifest
    assert publisher.bucket.head(blob_key("0" * 64)) is None


@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 7 * PIECE + 3])
@pytest.mark.parametrize("at", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize("known", [False, True], ids=["new", "known"])
def test_a_sealed_file_that_rotted_is_not_published(tmp_path: Path, size: int, at: int, *, known: bool) -> None:
    """However many pieces it has, and whether or not the bucket has the good ones: there is no manifest of the bad one, and no blob."""
    publisher = Publisher(tmp_path)
    publisher.source.fill({"data.mdb": 10, "segments/a": size})
    publisher.source.told = {"segments/a": sha256(files_of(publisher.source.folder)["segments/a"])}
    made = publisher.publish().manifest if known else None
    path = publisher.source.folder / "segments" / "a"
    good = path.read_bytes()
    bad = bytearray(good)
    bad[at] ^= 1
    path.write_bytes(bad)
    if known and size <= PIECE:
        assert publisher.publish().uploaded_bytes == 0  # the good blob is there, and the bad file is not read
        return
    publisher.bucket.calls.clear()
    with pytest.raises(Rotten) as caught:
        publisher.publish()
    assert caught.value.path == tmp_path / "copy" / "segments" / "a"
    assert publisher.prefix.newest() == made
    assert set(publisher.bucket.keys("put_file")) <= {blob_key(sha256((publisher.source.folder / "data.mdb").read_bytes()))}
    path.write_bytes(good)
    assert publisher.fetched(publisher.publish().manifest) == files_of(publisher.source.folder)


def test_a_checkpoint_rests_and_a_restore_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint works a quarter of the time, also while it copies a piece; a restore that hashes what it has does not wait."""
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    publisher = Publisher(tmp_path)
    publisher.piece_bytes = 4 * STEP_BYTES
    publisher.source.fill({"data.mdb": 6 * STEP_BYTES, "segments/a": 2 * STEP_BYTES})
    publisher.source.told = {"segments/a": sha256(files_of(publisher.source.folder)["segments/a"])}
    began_s = time.process_time()
    manifest = publisher.publish().manifest
    assert len(rests) == 16  # each step is hashed and written
    assert 0 < sum(rests) < REST * (time.process_time() - began_s)
    rests.clear()
    progress = Progress()
    dying_at("restore.piece", lambda: fetch(publisher.bucket, manifest, tmp_path / "restored", progress))
    publisher.bucket.calls.clear()
    fetch(publisher.bucket, manifest, tmp_path / "restored", progress)
    assert publisher.bucket.count()["get"] < 3
    assert files_of(tmp_path / "restored") == files_of(publisher.source.folder)
    assert not rests


@pytest.mark.parametrize("outcome", ["before", "after"])
@pytest.mark.parametrize("method", ["put_file", "create", "replace"])
def test_answers_that_are_lost(tmp_path: Path, outcome: str, method: str) -> None:
    """The next checkpoint is whole, and this owner is not fenced by its own manifest."""
    publisher = filled(tmp_path)
    publisher.bucket.plans[method] = [outcome]
    if method == "replace":
        publisher.publish()
    else:
        with pytest.raises(Unreachable):
            publisher.publish()
    made = publisher.publish()
    assert publisher.prefix.newest() == made.manifest
    second = method == "replace" or (method, outcome) == ("create", "after")
    assert made.manifest.base_generation == made.manifest.generation == (2 if second else 1)
    assert publisher.fetched(made.manifest) == files_of(publisher.source.folder)


def test_a_blob_that_vanished_at_once(tmp_path: Path) -> None:
    """A store that takes it and does not have it is not believed."""
    publisher = filled(tmp_path)

    def forget() -> None:
        for key in publisher.bucket.keys("put_file"):  # several threads upload: the last call is not always the one that just ended
            publisher.bucket.inner.delete(key)

    publisher.bucket.after = forget
    with pytest.raises(Unreachable, match="took a blob and does not have it"):
        publisher.publish()
    assert publisher.prefix.newest() is None


def test_the_log_does_not_reach_the_copy(tmp_path: Path) -> None:
    """No manifest: it would have a gap behind it."""
    publisher = filled(tmp_path)

    def never(_: int) -> None:
        raise Unreachable("the bucket is slow")

    with pytest.raises(Unreachable):
        publish(publisher.prefix, publisher.source, tmp_path / "copy", None, OWNER, lambda: EMPTY_LOG, never)
    assert publisher.prefix.newest() is None
    assert not (tmp_path / "copy").exists()


def test_the_place_is_taken_before_the_copy(tmp_path: Path) -> None:
    """The base has all rows up to there: a replay from there misses nothing."""
    publisher = filled(tmp_path)
    places = iter([Place(3, "3" * 64, 5), Place(4, "4" * 64, 9)])
    made = publish(publisher.prefix, publisher.source, tmp_path / "copy", None, OWNER, lambda: next(places), lambda _: None)
    assert made.manifest.log.number == 3
    hint = publisher.prefix.hint()
    assert hint is not None
    assert hint.log_number == 4


def test_an_owner_that_lost_the_prefix(tmp_path: Path) -> None:
    """Leaves no manifest, and the error names the new owner."""
    a, b = Machine(tmp_path, "a"), Machine(tmp_path, "b")
    a.start()
    a.write(b"1")
    assert a.shipped()
    b.start()
    generations = b.prefix.generations()
    with pytest.raises(Fenced, match=r"has a new owner: writer b-.* on b claimed epoch 2 \(generation 2\)"):
        a.checkpoint()
    assert b.prefix.generations() == generations
    assert b.checkpoint().manifest.generation == 3
    assert the_log(tmp_path) == b.engine.rows
    a.ships.stop(5)
    b.stop()


def test_a_manifest_of_ours_below_a_new_owner(tmp_path: Path) -> None:
    """An answer was lost, then somebody else claimed: fenced, not one further."""
    publisher = filled(tmp_path)
    publisher.bucket.plans["create"] = ["after"]
    with pytest.raises(Unreachable):
        publisher.publish()
    newest = publisher.prefix.newest()
    assert newest is not None
    publisher.prefix.create_manifest(msgspec.structs.replace(newest, kind="claim", generation=2, writer="v" * 32, epoch=2))
    with pytest.raises(Fenced, match="writer v"):
        publisher.publish()
    assert publisher.bucket.head(manifest_key(3)) is None


def test_writes_go_on_during_a_checkpoint(tmp_path: Path) -> None:
    """Base and log together are everything, wherever the copy was cut."""
    a = Machine(tmp_path, "a")
    a.start()

    def write(name: str, key: str) -> None:
        if name == "put_file":
            a.engine.write(b"meanwhile")

    a.bucket.gate = write
    for number in range(20):
        a.write(b"%d" % number)
        a.checkpoint()
    assert a.shipped()
    assert the_log(tmp_path) == a.engine.rows
    b = Machine(tmp_path, "b")
    b.claim()
    assert b.engine.rows == a.engine.rows
    a.ships.stop(5)
