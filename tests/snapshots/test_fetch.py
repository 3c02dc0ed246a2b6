"""Fetching: right to the byte or an error; what was fetched before a death is not fetched again; nothing begins without room."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from snapshots import failpoints
from snapshots import fetch as fetching
from snapshots.errors import Corrupt, LocalFault, NoRoom, SnapshotError, Unreachable
from snapshots.fetch import STATE, Progress, fetch
from snapshots.files import sha256
from snapshots.manifest import EMPTY_LOG, File, Manifest, seal
from snapshots.paths import blob_key
from tests.snapshots.fakes import Died, PlannedBucket, deaths, dying_at, files_of
from tests.snapshots.machine import bucket_in, in_memory

PIECE, RANGE = 50_000, 7_000
SIZES = {
    "data.mdb": 5 * PIECE + 123,
    "segments/empty": 0,
    "segments/one byte": 1,
    "segments/a range": RANGE,
    "segments/a piece": PIECE,
    "segments/a piece and a byte": PIECE + 1,
    "segments/deep/zeros": 0,
}
Kept = dict[str, bytes]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "RANGE_BYTES", RANGE)
    monkeypatch.setattr(fetching, "AHEAD", 5)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with in_memory() as root, deaths():
        yield root


class Stored:
    """Files of a manifest in a bucket."""

    def __init__(self, root: Path, seed: int = 1) -> None:
        chance = random.Random(seed)
        self.bucket = PlannedBucket(bucket_in(root))
        self.files = {name: chance.randbytes(size) for name, size in SIZES.items()}
        self.files["segments/deep/zeros"] = bytes(2 * PIECE)
        self.manifest = self.manifest_of([self.file(name, body) for name, body in self.files.items()])
        self.folder = root / "restore"
        self.progress = Progress()
        self.bucket.calls.clear()

    def file(self, name: str, body: bytes) -> File:
        pieces = [body[start : start + PIECE] for start in range(0, len(body), PIECE)]
        for piece in pieces:
            self.bucket.replace(blob_key(sha256(piece)), piece)
        return File(name, len(body), [sha256(piece) for piece in pieces], PIECE)

    def manifest_of(self, files: list[File]) -> Manifest:
        return seal(
            Manifest(
                kind="checkpoint",
                lineage="1" * 32,
                epoch=1,
                generation=1,
                writer="w",
                host="h",
                created_us=1,
                base_generation=1,
                base_sequence=1,
                base_time_us=1,
                log=EMPTY_LOG,
                engine={},
                counts={},
                files=files,
            )
        )[0]

    def fetch(self) -> None:
        fetch(self.bucket, self.manifest, self.folder, self.progress)


def ranges(size: int) -> int:
    pieces = [min(PIECE, size - start) for start in range(0, size, PIECE)]
    return sum(-(-piece // RANGE) for piece in pieces)


def test_to_the_byte(tmp_path: Path) -> None:
    """Files of no bytes, of one piece, of many ranges; each range is asked for once."""
    stored = Stored(tmp_path)
    stored.fetch()
    assert files_of(stored.folder) == stored.files
    assert stored.bucket.count() == {"get": sum(ranges(len(body)) for body in stored.files.values())}
    progress = stored.progress
    assert (progress.phase, progress.bytes_done, progress.bytes_total) == ("fetching", stored.manifest.bytes, stored.manifest.bytes)
    assert progress.eta_s() == 0.0


@pytest.mark.parametrize("piece", range(12))
def test_killed_after_any_piece(tmp_path: Path, piece: int) -> None:
    """What is right on the disk is not fetched again; the result is the same."""
    stored = Stored(tmp_path)
    left = [piece]

    def count_down() -> None:
        if not left[0]:
            raise Died
        left[0] -= 1

    failpoints.arm("restore.piece", count_down)
    if piece < sum(len(file.pieces) for file in stored.manifest.files):
        with pytest.raises(Died):
            stored.fetch()
    failpoints.disarm()
    landed = sum(
        ranges(min(PIECE, file.size - number * PIECE))
        for file in stored.manifest.files
        for number, digest in enumerate(file.pieces)
        if (body := stored.folder / file.path).exists() and sha256(body.read_bytes()[number * PIECE : (number + 1) * PIECE]) == digest
        if body.stat().st_blocks
    )
    assert landed >= piece
    stored.bucket.calls.clear()
    stored.fetch()
    assert files_of(stored.folder) == stored.files
    assert stored.bucket.count()["get"] == sum(ranges(len(body)) for body in stored.files.values()) - landed
    assert stored.progress.bytes_done == stored.manifest.bytes


def test_killed_at_the_end(tmp_path: Path) -> None:
    """Nothing was claimed yet: everything is fetched once more."""
    stored = Stored(tmp_path)
    dying_at("restore.fetched", stored.fetch)
    assert files_of(stored.folder) == stored.files
    stored.fetch()
    assert files_of(stored.folder) == stored.files


def test_a_bucket_that_does_not_answer(tmp_path: Path) -> None:
    """Its error comes out, nothing runs on, and the next try goes on."""
    stored = Stored(tmp_path)
    stored.bucket.plans["get"] = ["ok"] * 20 + ["before"]
    with pytest.raises(Unreachable):
        stored.fetch()
    calls = len(stored.bucket.calls)
    stored.fetch()
    assert files_of(stored.folder) == stored.files
    assert len(stored.bucket.calls) - calls < sum(ranges(len(body)) for body in stored.files.values())


def test_another_manifest_begins_anew(tmp_path: Path) -> None:
    """Nothing of the one before is left."""
    stored = Stored(tmp_path)
    stored.bucket.plans["get"] = ["ok"] * 20 + ["before"]
    with pytest.raises(Unreachable):
        stored.fetch()
    other = stored.manifest_of([stored.file("data.mdb", b"other")])
    fetch(stored.bucket, other, stored.folder, Progress())
    assert files_of(stored.folder) == {"data.mdb": b"other"}


@pytest.mark.parametrize("name", ["data.mdb", "segments/one byte", "segments/a piece and a byte"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "longer", "missing"])
def test_a_damaged_blob(tmp_path: Path, name: str, damage: str) -> None:
    """Is Corrupt, also again, until it is right: then the rest is fetched."""
    stored = Stored(tmp_path)
    file = next(file for file in stored.manifest.files if file.path == name)
    key = blob_key(file.pieces[-1])
    body = stored.bucket.get(key)
    if damage == "missing":
        stored.bucket.delete(key)
    else:
        stored.bucket.replace(key, {"flipped": body[:-1] + bytes([body[-1] ^ 1]), "truncated": body[:-1], "longer": body + b"x"}[damage])
    if damage == "longer":  # what the manifest names is all there
        stored.fetch()
        assert files_of(stored.folder) == stored.files
        return
    for _ in range(2):
        with pytest.raises(Corrupt, match=f"piece of {name}"):
            stored.fetch()
        assert (stored.folder / STATE).exists()
    stored.bucket.replace(key, body)
    stored.fetch()
    assert files_of(stored.folder) == stored.files


def test_bytes_that_rotted_on_the_disk(tmp_path: Path) -> None:
    """Between two tries: the piece is fetched again."""
    stored = Stored(tmp_path)
    stored.bucket.plans["get"] = ["ok"] * 40 + ["before"]
    with pytest.raises(Unreachable):
        stored.fetch()
    with (stored.folder / "data.mdb").open("r+b") as file:
        file.seek(100)
        file.write(b"rotten")
    stored.fetch()
    assert files_of(stored.folder) == stored.files


@pytest.mark.parametrize(
    "path", ["../evil", "a/../../evil", "/etc/evil", "..", ".", "", "a//b", "a/./b", "a/", "a\0b", STATE], ids=lambda path: repr(path)
)
def test_names_that_leave_the_folder(tmp_path: Path, path: str) -> None:
    """Are Corrupt before anything is fetched."""
    stored = Stored(tmp_path)
    whole = stored.manifest.files[0]
    with pytest.raises(Corrupt, match="cannot be in its folder"):
        fetch(stored.bucket, stored.manifest_of([msgspec.structs.replace(whole, path=path)]), stored.folder, Progress())
    assert stored.bucket.count() == {}
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("change", [{"pieces": []}, {"size": PIECE * 7}, {"size": -1}, {"piece_bytes": 0}, {"size": 1}])
def test_a_manifest_without_all_pieces(tmp_path: Path, change: dict[str, object]) -> None:
    """Is Corrupt: a hole would be a file of zeros."""
    stored = Stored(tmp_path)
    whole = stored.manifest.files[0]
    with pytest.raises(Corrupt, match="pieces for"):
        fetch(stored.bucket, stored.manifest_of([msgspec.structs.replace(whole, **change)]), stored.folder, Progress())
    assert stored.bucket.count() == {}


class Room(msgspec.Struct):
    """What is left on a disk."""

    f_bavail: int
    f_frsize: int = 1


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NoRoom before anything is fetched, with what to do; room for exactly what is missing is enough."""
    stored = Stored(tmp_path)
    room = Room(stored.manifest.bytes + fetching.ROOM_LEFT_BYTES - 10_000)  # a little is taken by the folder itself
    monkeypatch.setattr(os, "statvfs", lambda _: room)
    with pytest.raises(NoRoom, match="free space or take a larger disk"):
        stored.fetch()
    assert stored.bucket.count() == {}
    room.f_bavail += 10_000
    stored.bucket.plans["get"] = ["ok"] * 40 + ["before"]
    with pytest.raises(Unreachable):
        stored.fetch()
    there = sum(path.stat().st_blocks * 512 for path in stored.folder.rglob("*") if path.is_file())
    assert there > PIECE
    room.f_bavail -= there
    stored.fetch()
    assert files_of(stored.folder) == stored.files


def test_a_disk_that_takes_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write may be short without an error: the rest is written, or the error comes."""
    stored = Stored(tmp_path)
    write: Callable[[int, memoryview, int], int] = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, start: write(handle, data[: max(1, len(data) // 3)], start))
    stored.fetch()
    assert files_of(stored.folder) == stored.files

    def full(handle: int, data: memoryview, start: int) -> int:
        if len(data) < RANGE // 2:
            raise OSError(28, "No space left on device")
        return write(handle, data[: len(data) // 2], start)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoRoom):
        fetch(stored.bucket, stored.manifest, tmp_path / "second", Progress())


@pytest.mark.parametrize("call", ["pwrite", "fdatasync", "fsync"])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """Is told with the place on this machine."""
    stored = Stored(tmp_path)
    real: Callable[..., object] = getattr(os, call)

    def fail(handle: int, *rest: object) -> object:
        if Path(f"/proc/self/fd/{handle}").readlink().name != "data.mdb":
            return real(handle, *rest)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(LocalFault, match=f"cannot use {stored.folder}/data.mdb: Input/output error"):
        stored.fetch()


def test_every_file_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that an earlier try, which was killed, had written; then each directory."""
    stored = Stored(tmp_path)
    dying_at("restore.piece", stored.fetch)
    for name, body in stored.files.items():
        (stored.folder / name).write_bytes(body)
    synced: set[str] = set()
    sync = os.fsync

    def note(handle: int) -> None:
        synced.add(str(Path(f"/proc/self/fd/{handle}").readlink()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    stored.fetch()
    wanted = [stored.folder, *stored.folder.rglob("*")]
    assert {str(path) for path in wanted} <= synced


def test_the_disk_writes_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of several pieces is synced behind each but the last, which is left for the end."""
    stored = Stored(tmp_path)
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    stored.fetch()
    assert sorted(synced) == ["a piece and a byte"] + ["data.mdb"] * 5 + ["zeros"]


def test_ranges_wait_for_the_one_that_is_hashed_next(tmp_path: Path) -> None:
    """While the first does not come, no more are asked for than the page cache keeps."""
    stored = Stored(tmp_path)
    come, too_many, lock = threading.Event(), threading.Event(), threading.Lock()
    begun: list[str] = []

    def hold_the_first(_: str, key: str) -> None:
        with lock:
            begun.append(key)
            number = len(begun)
        if number == 1:
            come.wait(20)
        elif number > fetching.AHEAD and not come.is_set():
            too_many.set()

    stored.bucket.gate = hold_the_first
    thread = threading.Thread(target=stored.fetch)
    thread.start()
    try:
        assert not too_many.wait(0.3)
    finally:
        come.set()
        thread.join(20)
    assert files_of(stored.folder) == stored.files


def test_errors_are_ours(tmp_path: Path) -> None:
    """A folder that cannot be made is no OSError."""
    stored = Stored(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SnapshotError):
        fetch(stored.bucket, stored.manifest, tmp_path / "file" / "restore", Progress())
