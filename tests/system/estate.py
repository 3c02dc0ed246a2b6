"""A data directory with a bucket beside it, as a service left them, and what has to be found again."""

from __future__ import annotations

import hashlib
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from service.boot.trust import MEMORY, Trusted
from snapshots.directory import DirectoryBucket
from snapshots.fetch import Progress
from snapshots.paths import log_folder, parse_log_key
from snapshots.prefix import Prefix
from snapshots.verify import verify
from tests.system.client import Client, Lost, Refused
from tests.system.entries import iscc_id, unique_entry
from tests.system.lookup import find_wholly
from tests.system.model import Entry
from tests.system.server import Server

INDEX = "works"
REMOTE = {"tidepool-durability": "remote"}
QUICK = {"SEGMENT_CODES": 16, "LOG_INTERVAL": 0.05}
"""Settings under which little data passes through every stage."""
DAY_US = 86_400_000_000
SLOW_LOG = {**QUICK, "LOG_INTERVAL": 60}
"""Nothing is shipped but what a write with `REMOTE` waits for."""


class Estate:
    """One directory with `data` and `bucket`. `shipped` is in the bucket; `late` was acknowledged and is on the disk alone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.bucket = root / "bucket"
        self.shipped: list[Entry] = []
        self.late: list[Entry] = []

    @property
    def prefix(self) -> Prefix:
        return Prefix(DirectoryBucket(self.bucket))

    @property
    def everything(self) -> list[Entry]:
        return [*self.shipped, *self.late]

    def server(self, **settings: Any) -> Server:
        """`environment` and `arguments` among the settings are those of `Server`."""
        self.root.mkdir(parents=True, exist_ok=True)
        environment, arguments = settings.pop("environment", {}), settings.pop("arguments", [])
        server = Server(self.data, **{"SNAPSHOT_URL": self.bucket.as_uri(), **QUICK, **settings})
        server.environment, server.arguments = dict(environment), list(arguments)
        return server

    def trust(self, url: str) -> None:
        """See `trust`."""
        trust(self.data, url)

    def copy(self, root: Path) -> Estate:
        """As it stands now. Nobody may be serving it."""
        other = Estate(root)
        for ours, theirs in ((self.data, other.data), (self.bucket, other.bucket)):
            if ours.exists():
                shutil.copytree(ours, theirs)
        other.shipped, other.late = list(self.shipped), list(self.late)
        return other

    def without_live(self) -> Estate:
        """The disk loses the data; what else lies in the directory stays."""
        shutil.rmtree(self.data / "live", ignore_errors=True)
        (self.data / "clean").unlink(missing_ok=True)
        return self

    def without_disk(self) -> Estate:
        shutil.rmtree(self.data, ignore_errors=True)
        return self


def fill(root: Path) -> Estate:
    """30 assets in a checkpoint, 10 in the log behind it, 3 on the disk alone; then the process was killed."""
    estate = Estate(root)
    rng = random.Random(3)
    with estate.server(**SLOW_LOG) as server, Client(server.port) as local, Client(server.port, headers=REMOTE) as remote:
        local.create_index(INDEX)
        for count in (30, 10):
            new = some_entries(rng, len(estate.shipped), count)
            assert remote.add(INDEX, new).status == 201
            estate.shipped += new
            if count == 30:
                checkpoint(local)
        for _ in range(3):
            new = some_entries(rng, len(estate.everything), 1)
            assert local.add(INDEX, new).status == 201
            estate.late += new
        server.kill()
    return estate


def some_entries(rng: random.Random, first: int, count: int) -> list[Entry]:
    return [unique_entry(rng, iscc_id(first + at)) for at in range(count)]


def new_entry(number: int) -> Entry:
    """Always the same for a number; none of those in an estate that was just filled."""
    return unique_entry(random.Random(f"new {number}"), iscc_id(1000 + number))


def checkpoint(client: Client) -> Entry:
    answer = client.send("POST", "/snapshots")
    assert answer.status == 201, answer
    body: Entry = answer.body
    return body


def is_acknowledged(server: Server, entry: Entry, headers: Mapping[str, str] | None = None) -> bool:
    """False when the write was refused with 503, or nobody was there any more."""
    with Client(server.port, headers=headers) as client:
        try:
            status = client.add(INDEX, [entry]).status
        except (Lost, Refused):
            return False
    assert status in (201, 503)
    return status == 201


def require_entries(server: Server, wanted: Sequence[Entry], possible: Sequence[Entry] = ()) -> None:
    """All that is wanted is found by each of its units, what is possible wholly or not at all, and nothing else is there."""
    with Client(server.port) as client:
        found = find_wholly(client, INDEX, [*wanted, *possible])
        missing = {entry["iscc_id"] for entry in wanted} - found
        assert not missing, f"lost: {sorted(missing)}\n{server.log()}"
        assert client.index(INDEX).body["assets"] == len(found)


def trust(directory: Path, url: str) -> None:
    """The store was tried lately: a start does without the races, which take seconds on a store in Python."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MEMORY).write_bytes(msgspec.json.encode(Trusted(url, time.time())))


def require_sound(prefix: Prefix, days: int = 0) -> None:
    """Every byte of the bucket is read, as a check does so many days from now."""
    report = verify(prefix, None, 1.0, 0, Progress(), time.time_ns() // 1000 + days * DAY_US)
    assert report.problems == (), report


def require_goes_on(server: Server, prefix: Prefix, number: int, days: int = 0) -> Entry:
    """Writes, also to the bucket, and checkpoints work. The entry that was written. `days`: see `require_sound`."""
    entry = new_entry(number)
    with Client(server.port, headers=REMOTE) as client:
        answer = client.add(INDEX, [entry])
        assert answer.status == 201, answer
        checkpoint(client)
    require_sound(prefix, days)
    return entry


def tree(bucket: Path) -> dict[str, str]:
    """Every object with the digest of its content."""
    found = (path for path in bucket.rglob("*") if path.is_file() and ".partial" not in path.parts)
    return {str(path.relative_to(bucket)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def end_of(server: Server) -> tuple[int, str]:
    """Exit code and last words of a process that ends by itself."""
    code = server.wait_exit()
    lines = [line for line in server.log().splitlines() if line.startswith("tidepool: ")]
    return code, lines[-1].removeprefix("tidepool: ") if lines else server.log()


def start_in_vain(server: Server) -> tuple[int, str]:
    server.start()
    try:
        return end_of(server)
    finally:
        server.end()


def prune_log(prefix: Prefix) -> int:
    """Deletes the log that the newest base does not need, as a prune does years later: what has rows goes, fences stay. How many went."""
    newest = prefix.newest()
    assert newest is not None
    gone = 0
    for entry in list(prefix.bucket.list(log_folder(newest.lineage))):
        found = parse_log_key(entry.key)
        if found is None or found[1] > newest.log.number:
            continue
        one = prefix.log_object(*found)
        if one is not None and one.rows:
            assert prefix.bucket.delete(entry.key)
            gone += 1
    return gone
