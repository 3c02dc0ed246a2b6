"""Damage on the disk is healed from the bucket; damage in the bucket is an error with the object's name, and never a shorter index."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from snapshots.manifest import Manifest, seal
from snapshots.mark import read_mark
from snapshots.paths import blob_key, log_key, manifest_key
from tests.system.client import Client
from tests.system.damage import cut, empty, flip, remove
from tests.system.estate import (
    INDEX,
    REMOTE,
    Estate,
    fill,
    new_entry,
    require_entries,
    require_goes_on,
    require_sound,
    start_in_vain,
    tree,
)
from tests.system.server import Server, wait_until
from tests.system.test_snapshot_commands import run

CORRUPT, REFUSED = 4, 78


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    return fill(tmp_path_factory.mktemp("filled"))


@pytest.fixture
def estate(filled: Estate, tmp_path: Path) -> Estate:
    return filled.copy(tmp_path / "estate")


@pytest.mark.parametrize("damage", [cut, remove])
def test_a_damaged_disk_is_restored(estate: Estate, damage: Callable[[Path], None]) -> None:
    """What is here is set aside, the bucket's state is served, and the log says so."""
    damage(estate.data / "live" / "data.mdb")
    with estate.server() as server:
        require_entries(server, estate.shipped)
        (aside,) = estate.data.glob("live.corrupt-*")
        assert f"the data that was here is set aside as {aside}: " in server.log()
        assert (aside / "segments").is_dir()
        require_goes_on(server, estate.prefix, 1)


def test_a_disk_that_lies_about_its_end_is_restored(estate: Estate, tmp_path: Path) -> None:
    """An old data.mdb beside a newer mark: rows that this disk shipped are not on it. It is not taken for the newest state."""
    old = tmp_path / "old.mdb"
    shutil.copy(estate.data / "live" / "data.mdb", old)
    with estate.server() as server:
        written = require_goes_on(server, estate.prefix, 1)
        assert server.stop() == 0
    shutil.copy(old, estate.data / "live" / "data.mdb")
    with estate.server() as server:
        require_entries(server, [*estate.everything, written])
        assert "were shipped from here: an old copy" in server.log()
    assert len(list(estate.data.glob("live.corrupt-*"))) == 1


def test_a_damaged_disk_without_a_bucket_is_refused(estate: Estate) -> None:
    """Nothing can heal it: it stays as it is, for people."""
    cut(estate.data / "live" / "data.mdb")
    shutil.rmtree(estate.bucket)
    code, words = start_in_vain(estate.server())
    assert code == REFUSED
    assert str(estate.data / "live" / "data.mdb") in words
    assert list(estate.data.glob("live.*")) == []


def newest(estate: Estate) -> Manifest:
    found = estate.prefix.newest()
    assert found is not None
    return found


def some_blob(estate: Estate) -> str:
    return blob_key(next(file.pieces[0] for file in newest(estate).files if file.path == "data.mdb"))


def last_rows(estate: Estate) -> str:
    """The log object that holds the assets behind the base, followed by others."""
    manifest = newest(estate)
    objects = list(estate.prefix.follow(manifest.lineage, manifest.log))
    wanted = next(found for found in objects if found.rows and found.rows[-1].sequence > manifest.base_sequence)
    return log_key(manifest.lineage, wanted.header.number)


@pytest.fixture(scope="module")
def settled(filled: Estate, tmp_path_factory: pytest.TempPathFactory) -> Estate:
    """After another start and a stop: the log goes on behind every object with rows."""
    estate = filled.copy(tmp_path_factory.mktemp("settled") / "estate")
    with estate.server() as server:
        assert server.stop() == 0
    return estate


@pytest.mark.parametrize("damage", [flip, cut, empty, remove])
@pytest.mark.parametrize("choose", [some_blob, last_rows], ids=["blob", "log"])
def test_a_damaged_bucket_is_an_error(
    settled: Estate, tmp_path: Path, choose: Callable[[Estate], str], damage: Callable[[Path], None]
) -> None:
    """The process ends with 4 and the name of the object; an empty disk stays empty, and nothing is claimed."""
    estate = settled.copy(tmp_path / "estate")
    before = newest(estate)
    key = choose(estate)
    damage(estate.bucket / key)
    code, words = start_in_vain(estate.without_disk().server())
    assert code == CORRUPT, words
    assert key in words or f"log object {int(key[-24:-4])} of lineage {before.lineage} is missing" in words
    assert newest(estate).generation == before.generation


@pytest.mark.parametrize("damage", [flip, remove])
def test_a_broken_log_and_the_data_here(filled: Estate, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Another machine went on, and its log broke in the middle. A disk that ends before the break is not served as if that were the end;
    with `--adopt-local` it is the truth from now on, and the other lineage stays as it is."""
    estate = filled.copy(tmp_path / "estate")
    with estate.server() as server:
        assert server.stop() == 0
    other = Estate(tmp_path / "other")
    other.bucket = estate.bucket
    with other.server() as server:
        for number in range(3):
            write_remotely(server, number)
        server.kill()
    manifest, mark = newest(estate), read_mark(estate.data / "live")
    assert mark is not None
    key = log_key(manifest.lineage, mark.log.number + 2)
    damage(estate.bucket / key)
    before = tree(estate.bucket)
    code, words = start_in_vain(estate.server())
    assert code == CORRUPT, words
    assert key in words or f"log object {mark.log.number + 2} of lineage {manifest.lineage} is missing" in words
    assert "start once with `tidepool serve --adopt-local`" in words
    assert tree(estate.bucket) == before
    with estate.server(arguments=["--adopt-local"]) as server:
        require_entries(server, estate.everything)
        written = require_goes_on(server, estate.prefix, 9)
        assert server.stop() == 0
    after = tree(estate.bucket)
    assert [name for name in before if name != "v1/HEAD.json" and after.get(name) != before[name]] == []
    with estate.without_disk().server() as server:
        require_entries(server, [*estate.everything, written])


def write_remotely(server: Server, number: int) -> None:
    """A write that is in the bucket, in an object of its own."""
    with Client(server.port, headers=REMOTE) as client:
        assert client.add(INDEX, [new_entry(number)]).status == 201


def test_damage_that_a_command_found_is_mended_after_a_kill(filled: Estate, tmp_path: Path) -> None:
    """A check of the whole bucket beside the service notes that a blob of a sealed file is wrong; the service is killed; the next one
    writes the blob again, though nobody checks anything any more."""
    estate = filled.copy(tmp_path / "estate")
    quiet = {"SNAPSHOT_VERIFY_INTERVAL": 0, "SNAPSHOT_DRILL_INTERVAL": 0}
    key = blob_key(next(file.pieces[0] for file in newest(estate).files if file.path != "data.mdb"))
    with estate.server(**quiet) as server:
        flip(estate.bucket / key)
        told = run(estate, "verify", "--full")
        assert told.code == CORRUPT
        assert f"noted in {estate.data}" in told.out
        server.kill()
    assert [path.name for path in (estate.data / "damaged").iterdir()] == [key[-64:]]
    with estate.server(**quiet, SNAPSHOT_INTERVAL=1) as server:
        wait_until(lambda: not list((estate.data / "damaged").iterdir()), 60, "the blob to be written again")
        require_sound(estate.prefix)
        server.kill()
    with estate.without_disk().server() as server:
        require_entries(server, estate.everything)


def publish(estate: Estate, **changes: object) -> str:
    """Another generation, as a tidepool of the future would write it. Its key."""
    manifest = newest(estate)
    sealed, body = seal(msgspec.structs.replace(manifest, generation=manifest.generation + 1, **changes))
    key = manifest_key(sealed.generation)
    assert estate.prefix.bucket.create(key, body)
    return key


def test_a_manifest_of_the_future_is_refused(estate: Estate) -> None:
    """With data on this disk and without: nothing is restored, claimed or written."""
    key = publish(estate, format=2)
    words = f"manifest {key} has format 2, this version reads 1: run the version of tidepool that wrote it, or a newer one"
    assert start_in_vain(estate.server()) == (REFUSED, words)
    assert start_in_vain(estate.without_disk().server()) == (REFUSED, words)
    assert not (estate.data / "live").exists()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("format", "2", "its format is 2, this version on this machine reads 1"),
        ("lmdb", "1.0.2", "its LMDB engine is 1.0, this version on this machine reads 0.9"),
    ],
)
def test_a_base_of_another_engine_is_refused(estate: Estate, name: str, value: str, words: str) -> None:
    """Nothing is fetched that could not be opened."""
    publish(estate, engine={**newest(estate).engine, name: value, "tidepool": "9.0"})
    code, found = start_in_vain(estate.without_disk().server())
    assert code == REFUSED
    generation = newest(estate).generation
    expected = f"generation {generation} of {estate.bucket.as_uri()} cannot be restored: {words}; it was written by tidepool 9.0"
    assert found == expected
    assert not (estate.data / "live").exists()
    assert not (estate.data / "restore").exists()


def test_a_layout_of_the_future_is_refused(estate: Estate) -> None:
    """A prefix that a newer version laid out otherwise is not touched."""
    path = estate.bucket / "v1" / "format.json"
    path.write_bytes(path.read_bytes().replace(b'"layout":1', b'"layout":2'))
    words = f"{estate.bucket.as_uri()} has layout 2, this version reads 1: run a newer version of tidepool"
    assert start_in_vain(estate.server()) == (REFUSED, words)
