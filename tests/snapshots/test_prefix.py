"""A prefix: the newest manifest however old the list and the hint are, the log in order, its format."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from snapshots.bucket import Entry
from snapshots.claim import Author
from snapshots.errors import Corrupt, Refused, Unreachable
from snapshots.log import Place
from snapshots.manifest import EMPTY_LOG, Manifest
from snapshots.paths import FORMAT, HINT, MANIFESTS, log_folder, log_key, manifest_key
from snapshots.prefix import READ_AHEAD, Prefix
from tests.snapshots.fakes import PlannedBucket
from tests.snapshots.machine import bucket_in, first_manifest, in_memory
from tests.snapshots.prefixes import NOON_US, Maker


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root:
        yield root


def made(root: Path, objects: int = 3) -> Maker:
    maker = Maker(root / "bucket")
    maker.begin(NOON_US)
    for _ in range(objects):
        maker.ship(NOON_US, rows=2)
    return maker


def test_initialise(tmp_path: Path) -> None:
    """Done twice, or by two: the first one counts."""
    prefix = Prefix(bucket_in(tmp_path))
    assert prefix.format() is None
    prefix.initialise("one", 1)
    found = prefix.format()
    assert found is not None
    prefix.initialise("two", 2)
    assert prefix.format() == found
    assert (found.layout, found.hash, found.created_by, found.created_us) == (1, "sha256", "one", 1)


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"[]"])
def test_a_format_that_cannot_be_read(tmp_path: Path, body: bytes) -> None:
    """Is Corrupt, also when it is to be made."""
    prefix = Prefix(bucket_in(tmp_path))
    prefix.bucket.replace(FORMAT, body)
    for action in (prefix.format, lambda: prefix.initialise("x", 1)):
        with pytest.raises(Corrupt, match=FORMAT):
            action()


def test_a_layout_of_a_newer_version(tmp_path: Path) -> None:
    """Is refused with what to do."""
    prefix = Prefix(bucket_in(tmp_path))
    prefix.initialise("one", 1)
    found = prefix.format()
    assert found is not None
    prefix.bucket.replace(FORMAT, msgspec.json.encode(msgspec.structs.replace(found, layout=2)))
    with pytest.raises(Refused, match="has layout 2, this version reads 1: run a newer version"):
        prefix.format()


def manifests(prefix: Prefix, count: int) -> list[Manifest]:
    found = []
    for generation in range(1, count + 1):
        wanted = msgspec.structs.replace(first_manifest("1" * 32, author()), generation=generation, epoch=generation)
        created = prefix.create_manifest(wanted)
        assert created is not None
        found.append(created)
    return found


def author() -> Author:
    return Author("w", "h")


def test_no_manifest(tmp_path: Path) -> None:
    """Of a new prefix; other names in the folder are nobody's."""
    prefix = Prefix(bucket_in(tmp_path))
    assert prefix.newest() is None
    prefix.bucket.replace(f"{MANIFESTS}notes.txt", b"")
    assert prefix.newest() is None
    assert prefix.generations() == []


class OldList(PlannedBucket):
    """A store whose list does not know the newest names yet."""

    known = 0

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        for entry in super().list(prefix, after):
            if entry.key <= manifest_key(self.known):
                yield entry


@pytest.mark.parametrize("listed", [0, 1, 4, 6])
@pytest.mark.parametrize("hinted", [None, 1, 4, 6])
def test_the_newest_manifest(tmp_path: Path, listed: int, hinted: int | None) -> None:
    """Whichever of list and hint is older, as long as one of them knows anything."""
    bucket = OldList(bucket_in(tmp_path))
    bucket.known = listed
    prefix = Prefix(bucket)
    found = manifests(prefix, 6)
    if hinted is not None:
        prefix.update_hint(found[hinted - 1], 1, 1)
    expected = None if listed == 0 and hinted is None else found[-1]
    assert prefix.newest() == expected


def test_a_taken_generation(tmp_path: Path) -> None:
    """None, and nothing is replaced; the same manifest again is there."""
    prefix = Prefix(bucket_in(tmp_path))
    (first,) = manifests(prefix, 1)
    assert prefix.create_manifest(msgspec.structs.replace(first, writer="other")) is None
    assert prefix.create_manifest(first) == first
    assert prefix.manifest(1) == first
    assert prefix.manifest_or_none(2) is None


def test_a_manifest_that_is_known_and_not_there(tmp_path: Path) -> None:
    """Is Corrupt: an older one is not the newest state."""
    prefix = Prefix(bucket_in(tmp_path))
    found = manifests(prefix, 3)
    prefix.update_hint(found[2], 1, 1)
    prefix.bucket.delete(manifest_key(3))
    with pytest.raises(Corrupt, match="generation=3"):
        prefix.newest()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"generation": 1}'])
def test_a_hint_that_cannot_be_read(tmp_path: Path, body: bytes) -> None:
    """Is none."""
    prefix = Prefix(bucket_in(tmp_path))
    found = manifests(prefix, 2)
    prefix.bucket.replace(HINT, body)
    assert prefix.hint() is None
    assert prefix.newest() == found[-1]


def test_a_hint_that_rotted(tmp_path: Path) -> None:
    """Wherever a byte changes: it is none, or says the same. A wrong number in it would look like a loss."""
    prefix = Prefix(bucket_in(tmp_path))
    found = manifests(prefix, 1)
    prefix.update_hint(found[0], 1, 1)
    body, hint = prefix.bucket.get(HINT), prefix.hint()
    assert hint is not None
    for at in range(len(body)):
        for bit in range(8):
            prefix.bucket.replace(HINT, body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :])
            read = prefix.hint()
            assert read is None or msgspec.structs.replace(read, digest=hint.digest) == hint
            assert prefix.newest() == found[0]


def test_a_hint_without_a_digest(tmp_path: Path) -> None:
    """Is of an earlier version, and believed."""
    prefix = Prefix(bucket_in(tmp_path))
    found = manifests(prefix, 1)
    prefix.update_hint(found[0], 7, 1)
    written = msgspec.json.decode(prefix.bucket.get(HINT))
    del written["digest"]
    prefix.bucket.replace(HINT, msgspec.json.encode(written))
    hint = prefix.hint()
    assert hint is not None
    assert hint.log_number == 7


def test_a_hint_that_cannot_be_written(tmp_path: Path) -> None:
    """Costs nothing but looking; one that is refused is said."""
    bucket = PlannedBucket(bucket_in(tmp_path))
    prefix = Prefix(bucket)
    found = manifests(prefix, 2)
    bucket.plans["replace"] = ["before"]
    prefix.update_hint(found[-1], 1, 1)
    assert prefix.hint() is None


@pytest.mark.parametrize("objects", [0, 1, 2, 3, READ_AHEAD, 50])
def test_the_log_in_order(tmp_path: Path, objects: int) -> None:
    """From any place to the end; no more is asked for than what is fetched ahead."""
    maker = made(tmp_path, objects)
    bucket = PlannedBucket(maker.bucket)
    prefix = Prefix(bucket)
    found = list(prefix.follow(maker.lineage, EMPTY_LOG))
    assert [each.header.number for each in found] == list(range(1, objects + 2))
    assert [row.sequence for each in found for row in each.rows] == list(range(1, 2 * objects + 1))
    assert len(bucket.calls) <= objects + 1 + READ_AHEAD
    assert found[-1].place == maker.end
    for place in (found[0].place, found[-1].place):
        assert [each.header.number for each in prefix.follow(maker.lineage, place)] == list(range(place.number + 1, objects + 2))
    prefix.require_end(maker.lineage, maker.end)


def test_objects_that_arrive_late(tmp_path: Path) -> None:
    """Those fetched ahead may be slower than those behind them: the order stays."""
    maker = made(tmp_path, 12)
    bucket = PlannedBucket(maker.bucket)
    later = threading.Event()

    def gate(_: str, key: str) -> None:
        if key == log_key(maker.lineage, 5):
            assert later.wait(10)
        if key == log_key(maker.lineage, 7):
            later.set()

    bucket.gate = gate
    found = Prefix(bucket).follow(maker.lineage, EMPTY_LOG)
    assert [each.header.number for each in found] == list(range(1, 14))


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """Leaves no thread behind."""
    maker = made(tmp_path, 20)
    log = maker.prefix.follow(maker.lineage, EMPTY_LOG)
    for _ in range(10):
        next(log)
    log.close()  # type: ignore[attr-defined]  # it is a generator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("log_")]


def test_an_error_while_reading_the_log(tmp_path: Path) -> None:
    """Comes out; it is not the end of the log."""
    maker = made(tmp_path, 20)
    bucket = PlannedBucket(maker.bucket)
    bucket.plans["get"] = ["ok"] * 9 + ["before"]
    with pytest.raises(Unreachable):
        list(Prefix(bucket).follow(maker.lineage, EMPTY_LOG))


@pytest.mark.parametrize("missing", [1, 2, 5, 9])
def test_a_hole(tmp_path: Path, missing: int) -> None:
    """Ends the reading, and whoever needs the end of the log is told."""
    maker = made(tmp_path, 8)
    maker.bucket.delete(log_key(maker.lineage, missing))
    place = EMPTY_LOG
    for found in maker.prefix.follow(maker.lineage, EMPTY_LOG):
        place = found.place
    assert place.number == missing - 1
    if missing < 9:
        with pytest.raises(Corrupt, match=f"log object {missing} of lineage {maker.lineage} is missing, but {missing + 1} is there"):
            maker.prefix.require_end(maker.lineage, place)
    else:
        maker.prefix.require_end(maker.lineage, place)


@pytest.mark.parametrize("swap", [(2, 3), (4, 3), (5, 1)])
def test_an_object_under_another_name(tmp_path: Path, swap: tuple[int, int]) -> None:
    """Is Corrupt, and what came before it was read."""
    maker = made(tmp_path, 5)
    where, what = swap
    maker.bucket.replace(log_key(maker.lineage, where), maker.bucket.get(log_key(maker.lineage, what)))
    read: list[int] = []
    with pytest.raises(Corrupt, match="is not the one of its name"):
        read.extend(each.header.number for each in maker.prefix.follow(maker.lineage, EMPTY_LOG))
    assert len(read) in (0, where - 1)


def test_a_broken_chain(tmp_path: Path) -> None:
    """A place with another digest, or another sequence, is not where the log goes on."""
    maker = made(tmp_path, 3)
    places = [each.place for each in maker.prefix.follow(maker.lineage, EMPTY_LOG)]
    for wrong, words in (({"digest": "0" * 64}, "chain is broken"), ({"sequence": 77}, "has a gap")):
        with pytest.raises(Corrupt, match=words):
            list(maker.prefix.follow(maker.lineage, msgspec.structs.replace(places[1], **wrong)))


def test_digests(tmp_path: Path) -> None:
    """Of an object without reading it; None when it is not there; nonsense of an object that is too short is no digest of ours."""
    maker = made(tmp_path, 2)
    for each in maker.prefix.follow(maker.lineage, EMPTY_LOG):
        assert maker.prefix.log_digest(maker.lineage, each.header.number) == each.digest
    assert maker.prefix.log_digest(maker.lineage, 9) is None
    maker.bucket.replace(log_key(maker.lineage, 1), b"short")
    assert maker.prefix.log_digest(maker.lineage, 1) == b"short".hex()


def test_other_names_beside_the_log(tmp_path: Path) -> None:
    """Are nobody's."""
    maker = made(tmp_path, 2)
    maker.bucket.replace(f"{log_folder(maker.lineage)}zzz", b"")
    maker.prefix.require_end(maker.lineage, maker.end)
    with pytest.raises(Corrupt):
        maker.prefix.require_end(maker.lineage, Place(1, "", 0))
