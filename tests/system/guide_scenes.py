"""What stands in the world before the commands of a section run: each scene is a few sections of a page, in order, in one world."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from snapshots.addresses import open_bucket
from snapshots.paths import blob_key
from snapshots.prefix import Prefix
from snapshots.unshipped import unshipped_files
from tests.stores.faulty import answer, faulty_store
from tests.stores.store import Store
from tests.system.client import Client
from tests.system.entries import iscc_id
from tests.system.estate import REMOTE, checkpoint, new_entry, trust
from tests.system.guide_world import SECRET, World
from tests.system.lookup import find_wholly
from tests.system.server import Server

INDEX = "books"
ENDING_S = 30.0


class Scene(NamedTuple):
    """`prepare` is called with a world in which nothing runs, `require` when all commands have run."""

    page: str
    sections: tuple[str, ...]
    prepare: Callable[[World], None]
    settings: Mapping[str, object] = MappingProxyType({})
    may_delete: bool = True
    require: Callable[[World], None] = lambda _: None


def nothing(_: World) -> None:
    """A new machine and an empty bucket."""


def initialised(world: World) -> None:
    """The service, with nothing in it yet: as `tidepool snapshot init` leaves the bucket, which was tried."""
    with closing(open_bucket(world.bucket, world.store.environment)) as bucket:
        Prefix(bucket).initialise("tests", time.time_ns() // 1000)
    trust(world.data, world.bucket)
    printed, code = world.run("tidepool serve")
    assert code == 0, printed


def filled(world: World) -> None:
    """The service with three assets in a checkpoint; then the moment that guides go back to; then one asset less."""
    initialised(world)
    with world.client(**REMOTE) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(number) for number in range(3)]).status == 201
        checkpoint(client)
        world.moment = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        assert client.send("DELETE", f"/indexes/{INDEX}/assets/{iscc_id(1000)}").status == 204


def lost_to_another(world: World) -> None:
    """Another process took the bucket while writes of this one were not shipped; this one ended with 5. The other runs on."""
    filled(world)
    with world.client() as client:
        assert client.add(INDEX, [new_entry(number) for number in range(3, 6)]).status == 201
        assert client.send("DELETE", f"/indexes/{INDEX}/assets/{iscc_id(1001)}").status == 204
    other = Server(world.root / "other")
    other.port = world.other_port
    other.environment = {**world.environment, "ISCC_SEARCH_PORT": str(other.port), "ISCC_SEARCH_INDEX_URI": str(world.root / "other")}
    world.servers[other.port] = other
    trust(other.directory, world.bucket)
    other.start()
    other.wait_ready()
    with world.client(**REMOTE) as client:
        assert client.add(INDEX, [new_entry(6)]).status == 503
    assert world.server.wait_exit(ENDING_S) == 5


def added_again(world: World) -> None:
    """The owner has what was added: each by every unit."""
    require_there(world, 1, 2, 3, 4, 5, 6)


def done_again(world: World) -> None:
    """And what was deleted is gone."""
    require_there(world, 2, 3, 4, 5, 6)
    assert unshipped_files(world.data) == []


def require_there(world: World, *numbers: int) -> None:
    """These of `lost_to_another` and no others, at the other process."""
    with Client(world.other_port, headers={"x-api-key": SECRET}) as client:
        found = find_wholly(client, INDEX, [new_entry(number) for number in range(8)])
        assert found == {new_entry(number)["iscc_id"] for number in numbers}
        assert client.index(INDEX).body["assets"] == len(numbers)


def damaged(world: World) -> None:
    """The newest checkpoint has a blob that is not what it was; the service runs."""
    filled(world)
    with world.client(**REMOTE) as client:
        checkpoint(client)
        assert client.add(INDEX, [new_entry(7)]).status == 201
    with closing(open_bucket(world.bucket, world.store.environment)) as bucket:
        newest = Prefix(bucket).newest()
    assert newest is not None
    with closing(world.store.client()) as client:
        name, _, prefix = world.bucket.removeprefix("s3://").partition("/")
        client.put_object(Bucket=name, Key=f"{prefix}/{blob_key(newest.files[0].pieces[0])}", Body=bytes(newest.files[0].size))


def damaged_and_disk_lost(world: World) -> None:
    """And the disk is empty."""
    damaged(world)
    assert world.server.stop() == 0
    shutil.rmtree(world.data)
    world.data.mkdir()


SCENES = (
    Scene("deploy.md", ("what-to-change", "first-start"), nothing),
    Scene("deploy.md", ("how-to-see-that-it-works",), initialised),
    Scene("operate.md", ("operate", "disk-full"), filled),
    Scene("operate.md", ("restore-failed",), damaged_and_disk_lost),
    Scene("operate.md", ("fenced",), lost_to_another, {"LOG_INTERVAL": 60}, require=added_again),
    Scene("operate.md", ("verify-failed",), damaged),
    Scene("recovery.md", ("what-is-there", "to-a-moment-of-the-past"), filled),
    Scene("recovery.md", ("a-file-of-unshipped-writes",), lost_to_another, {"LOG_INTERVAL": 60}, require=done_again),
    Scene("recovery.md", ("practise", "pins", "retention"), filled),
    Scene("upgrade.md", ("order", "rollback"), filled),
    Scene("security.md", ("the-key",), initialised),
    Scene("security.md", ("rights-on-the-bucket",), filled, may_delete=False),
)
"""Every section of the guides with commands that run, once."""


@contextmanager
def opened(scene: Scene, root: Path, store: Store) -> Iterator[World]:
    """The world of a scene, ready for its commands."""
    with faulty_store(store) as between:
        if not scene.may_delete:
            between.always("DELETE", answer(403, "AccessDenied"))
        with World(root, store if scene.may_delete else between.store, **scene.settings) as world:
            scene.prepare(world)
            yield world
