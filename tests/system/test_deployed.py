"""Each deployment as its file says, as far as one machine allows: environment, command, stop signal and grace, against an S3 server.

Replaced by local ones: the directory, the address, the bucket and its key. Not shown: that the platform reads the file as we do.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.files import SECRET, Deployment, ecs, fly, kubernetes
from tests.infra.machine import Machine
from tests.stores.moto import moto_store
from tests.stores.store import Store
from tests.system.client import Client
from tests.system.estate import INDEX, REMOTE, checkpoint, some_entries
from tests.system.lookup import find_wholly
from tests.system.model import Entry

KEY = {"x-api-key": SECRET}
FIRST = "ISCC_SEARCH_SNAPSHOT_MISSING"
BEFORE, BEHIND = 30, 10
"""Assets in the checkpoint, and in the log behind it."""
EACH = pytest.mark.parametrize("deployment", [fly(), ecs(), kubernetes()], ids=lambda deployment: deployment.name)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with moto_store() as running:
        yield running


@EACH
def test_a_machine_is_started_replaced_and_lost(tmp_path: Path, store: Store, deployment: Deployment) -> None:
    """The life of one deployment: each step needs the one before it.

    Without the word that the guide names an empty bucket is an error that names the variable, and not an empty index. Stopped with the
    signal of the file within its grace, started with an empty disk: the same bytes for every search and every asset. Killed, its disk
    gone: what was acknowledged as being in the bucket is answered by the next one.
    """
    machine = Machine(deployment, tmp_path / "disk", bucket_of(deployment, store))
    require_the_word(machine)
    entries = first_start(machine)
    with Client(machine.port, headers=KEY) as client:
        before = answers(client, entries)
    assert machine.stop_as_told() == 0
    machine.lose_disk()
    with machine, Client(machine.port, headers=KEY) as client, Client(machine.port, headers=KEY | REMOTE) as remote:
        assert machine.log().count('"state":"restoring"') == 1
        require_all(client, entries)
        assert answers(client, entries) == before
        new = some_entries(random.Random(1), len(entries), BEHIND)
        assert remote.add(INDEX, new).status == 201
        machine.kill()
    machine.lose_disk()
    with machine, Client(machine.port, headers=KEY) as client:
        assert machine.log().count('"state":"restoring"') == 2
        require_all(client, [*entries, *new])


def require_the_word(machine: Machine) -> None:
    given = dict(machine.variables)
    machine.variables[FIRST] = "fail"
    machine.start()
    machine.variables = given
    try:
        assert machine.wait_exit() == 78
    finally:
        machine.end()
    assert FIRST in machine.log()


def require_all(client: Client, entries: list[Entry]) -> None:
    assert find_wholly(client, INDEX, entries) == {entry["iscc_id"] for entry in entries}


def first_start(machine: Machine) -> list[Entry]:
    """The word is given once. What was written: some of it in a checkpoint, some in the log behind it. The machine runs."""
    entries = some_entries(random.Random(machine.deployment.name), 0, BEFORE + BEHIND)
    given = dict(machine.variables)
    machine.variables[FIRST] = "create"
    machine.start()
    machine.variables = given
    try:
        machine.wait_ready()
        with Client(machine.port) as stranger:
            assert stranger.create_index(INDEX).status == 401
        with Client(machine.port, headers=KEY) as client:
            assert client.create_index(INDEX).status == 201
            assert client.add(INDEX, entries[:BEFORE]).status == 201
            checkpoint(client)
            assert client.add(INDEX, entries[BEFORE:]).status == 201
    except BaseException:
        machine.end()
        raise
    return entries


def answers(client: Client, entries: list[Entry]) -> list[object]:
    """What is asked for each asset, and what comes."""
    searches = [client.search(INDEX, {"units": entry["units"], "simprints": simprints(entry)}) for entry in entries]
    reads = [client.get(INDEX, entry["iscc_id"]) for entry in entries]
    return [(answer.status, answer.body) for answer in (*searches, *reads)]


def simprints(entry: Entry) -> dict[str, list[str]]:
    return {name: [one["simprint"] for one in stored] for name, stored in entry["simprints"].items()}


def bucket_of(deployment: Deployment, store: Store) -> dict[str, str]:
    """As the platform gives it: Fly.io by names of its own, and nothing of ours; the others by an address."""
    name = f"{store.bucket}-{deployment.name}-{random.randbytes(3).hex()}"
    client = store.client()
    try:
        client.create_bucket(Bucket=name)
    finally:
        client.close()
    if deployment.name == "fly":
        assert "ISCC_SEARCH_SNAPSHOT_URL" not in deployment.environment
        return store.environment | {"BUCKET_NAME": name, "AWS_REGION": "auto"}
    return store.environment | {"ISCC_SEARCH_SNAPSHOT_URL": f"s3://{name}/tidepool"}
