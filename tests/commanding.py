"""What tests of `tidepool snapshot` need: the command in this process, and a data directory with a history."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from service.boot.commands.owning import Owned, owned
from service.boot.commands.told import opened_prefix
from service.cli import main
from service.engine.errors import EngineError
from service.engine.files import DirectoryLock
from service.engine.requests import AddAssets, CreateIndex, DeleteAsset, Request
from snapshots.history import generations
from snapshots.manifest import EMPTY_LOG
from tests.api.inside import settings
from tests.engine.building import META, asset, key, opened, random_units, search, unit

INDEX = "a"
ROWS = 24
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHARED = unit(META, bytes(range(32)))
"""A unit that all assets have."""


class Ran(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Place:
    """A data directory and a bucket beside it, and the command with their settings."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
        monkeypatch.chdir(root)
        self.root = root
        self.directory = root / "data"
        self.bucket = root / "bucket"
        given: dict[str, object] = {"SNAPSHOT_URL": self.bucket.as_uri(), "SEGMENT_CODES": 64, "DISK_FREE_MIN_BYTES": 0, **values}
        self.values = {"INDEX_URI": self.directory, **given}
        self.settings = settings(self.directory, **given)

    def run(self, *arguments: object, **more: object) -> Ran:
        """`tidepool snapshot` with these arguments."""
        environment = {f"ISCC_SEARCH_{name}": str(value) for name, value in {**self.values, **more}.items()}
        done = CliRunner().invoke(main, ["snapshot", *map(str, arguments)], env=environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        return Ran(done.exit_code, done.stdout, done.stderr)

    @contextmanager
    def owned(self) -> Iterator[Owned]:
        """The data directory open, as a service has it."""
        self.directory.mkdir(exist_ok=True)
        with (
            DirectoryLock(self.directory) as lock,
            opened_prefix(self.settings, make=True) as prefix,
            owned(self.settings, prefix, lock) as open_,
        ):
            yield open_

    def generations(self) -> list[int]:
        with opened_prefix(self.settings) as prefix:
            return [each.generation for each in generations(prefix, 0)]


def commit(open_: Owned, *requests: Request) -> None:
    for answer in open_.keeper.commit(requests):
        if isinstance(answer, EngineError):
            raise answer


def history(open_: Owned, rows: int) -> list[set[int]]:
    """An index, then in each request an asset more, now and then one less; a checkpoint in the middle. By sequence the assets that were
    there."""
    chance = random.Random(rows)
    commit(open_, CreateIndex(INDEX))
    states: list[set[int]] = [set(), set()]
    for number in range(2, rows + 1):
        if number % 5 == 0:
            commit(open_, DeleteAsset(INDEX, 0, key(number - 1)))
            states.append(states[-1] - {number - 1})
        else:
            commit(open_, AddAssets(INDEX, [asset(number, SHARED, *random_units(chance)[1:])]))
            states.append(states[-1] | {number})
        if number == rows // 2:
            open_.keeper.checkpoint()
    return states


def assets(directory: Path) -> set[int] | None:
    """Numbers of the assets in a directory that nobody serves, all found by a search. None without the index."""
    with opened(directory) as engine:
        if not engine.indexes():
            return None
        return {int.from_bytes(match.key, "big") for match in search(engine, SHARED, limit=1000, index=INDEX).matches}


def commit_times(place: Place) -> list[int]:
    """By sequence, as the log in the bucket has them."""
    with opened_prefix(place.settings) as prefix:
        newest = prefix.newest()
        assert newest is not None
        return [0, *(row.time_us for found in prefix.follow(newest.lineage, EMPTY_LOG) for row in found.rows)]


class Story(NamedTuple):
    """A place whose first ROWS requests are known."""

    place: Place
    states: list[set[int]]
    times: list[int]


@contextmanager
def story_in(root: Path) -> Iterator[Story]:
    """Whoever uses it changes nothing of it."""
    with pytest.MonkeyPatch.context() as patch:
        place = Place(root, patch)
        with place.owned() as open_:
            states = history(open_, ROWS)
        yield Story(place, states, commit_times(place))


def filled(place: Place, rows: int = 8) -> Place:
    with place.owned() as open_:
        history(open_, rows)
    return place


def iso(time_us: int) -> str:
    return (EPOCH + timedelta(microseconds=time_us)).isoformat().replace("+00:00", "Z")


def require_error(ran: Ran, code: int, words: str) -> None:
    """One line on stderr, nothing on stdout, no trace."""
    assert (ran.code, ran.out) == (code, ""), ran
    assert re.fullmatch(rf"tidepool: .*{words}.*\n", ran.err), ran.err


def tree(*roots: Path) -> dict[str, tuple[int, str]]:
    """Every file with its time of change and its digest, every directory."""
    found = {}
    for path in (path for root in roots for path in [root, *root.rglob("*")] if root.exists()):
        digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (path.stat().st_mtime_ns if path.is_file() else 0, digest)
    return found


def blobs(bucket: Path) -> Sequence[Path]:
    return sorted(path for path in (bucket / "v1" / "blobs").rglob("*") if path.is_file())
