"""What earlier versions wrote is read: a data directory is opened, a bucket is restored, with the answers that were promised then."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.fixtures.make import FOLDER, OTHER
from tests.system.client import Client
from tests.system.estate import INDEX, Estate, require_sound
from tests.system.model import Entry, Model, without_simprints
from tests.system.server import Server

ARCHIVES = sorted(FOLDER.glob("estate-*.tar.gz"))
PACKED_BYTES_MAX = 100_000
DAYS = 60  # the checkpoint is older than any window by now, or will be
TOLERANCE = 1e-9


@pytest.fixture(params=ARCHIVES, ids=[path.name for path in ARCHIVES])
def archive(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


@pytest.fixture
def estate(archive: Path, tmp_path: Path) -> Estate:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "estate", filter="data")
    return Estate(tmp_path / "estate")


def told(archive: Path) -> dict[str, list[list[Entry]]]:
    found: dict[str, list[list[Entry]]] = json.loads(archive.with_name(archive.name.replace(".tar.gz", ".json")).read_text("utf-8"))
    return found


def require_answers(server: Server, indexes: dict[str, list[Entry]]) -> None:
    """Every asset is read, and every search by an asset gives what the model gives."""
    model = Model()
    with Client(server.port) as client:
        for name, entries in indexes.items():
            model.create_index(name)
            model.add(name, entries)
            assert client.index(name).body["assets"] == len(entries)
            for entry in entries:
                assert client.get(name, entry["iscc_id"]).body == without_simprints(entry)
                found = client.search(name, {"iscc_id": entry["iscc_id"]}, limit=1000)
                _, matches = model.search(name, {"iscc_id": entry["iscc_id"]}, 1000)
                assert [match["iscc_id"] for match in found.body["global_matches"]] == [match.iscc_id for match in matches]
                scores = [match["score"] for match in found.body["global_matches"]]
                assert scores == pytest.approx([match.score for match in matches], abs=TOLERANCE)
                chunks = model.search_chunks(name, {"iscc_id": entry["iscc_id"]}, 1000)
                assert [match["iscc_id"] for match in found.body["chunk_matches"]] == [match.iscc_id for match in chunks]


def test_every_version_is_kept(archive: Path) -> None:
    """There is at least this one, small enough for a repository, with two indexes."""
    assert archive.stat().st_size < PACKED_BYTES_MAX
    assert set(told(archive)) == {INDEX, OTHER}


def test_an_old_directory_is_opened(archive: Path, estate: Estate) -> None:
    """Everything, what was never shipped included; and it is shipped now."""
    with estate.server() as server:
        require_answers(server, {name: [*shipped, *late] for name, (shipped, late) in told(archive).items()})
        assert server.stop() == 0
    require_sound(estate.prefix, days=DAYS)
    with estate.without_disk().server() as server:
        require_answers(server, {name: [*shipped, *late] for name, (shipped, late) in told(archive).items()})


def test_an_old_bucket_is_restored(archive: Path, estate: Estate) -> None:
    """Everything that had been shipped then: the base, and the log behind it."""
    require_sound(estate.prefix, days=DAYS)
    with estate.without_disk().server() as server:
        require_answers(server, {name: shipped for name, (shipped, _) in told(archive).items()})
