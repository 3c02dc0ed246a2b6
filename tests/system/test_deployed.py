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
from tests.system.entries import iscc_id, unique_entry
from tests.system.estate import INDEX, REMOTE, checkpoint
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
def test_a_machine_that_is_replaced_answers_as_before(tmp_path: Path, store: Store, deployment: Deployment) -> None:
    """Stopped with the signal of the file within its grace, started with an empty disk: the same bytes for every search and every asset."""
    machine = Machine(deployment, tmp_path / "disk", bucket_of(deployment, store))
    entries = first_start(machine, {})
    with Client(machine.port, headers=KEY) as client:
        before = answers(client, entries)
    assert machine.stop_as_told() == 0
    machine.lose_disk()
    with machine, Client(machine.port, headers=KEY) as client:
        assert '"restoring"' in machine.log()
        assert find_wholly(client, INDEX, entries) == {entry["iscc_id"] for entry in entries}
        assert answers(client, entries) == before


@EACH
def test_a_machine_that_is_lost_without_warning_loses_nothing_remote(tmp_path: Path, store: Store, deployment: Deployment) -> None:
    """Killed, its disk gone: what was acknowledged as being in the bucket is answered by the next one."""
    machine = Machine(deployment, tmp_path / "disk", bucket_of(deployment, store))
    entries = first_start(machine, REMOTE)
    machine.kill()
    machine.lose_disk()
    with machine, Client(machine.port, headers=KEY) as client:
        assert find_wholly(client, INDEX, entries) == {entry["iscc_id"] for entry in entries}


@EACH
def test_a_first_start_needs_the_word_that_the_guide_names(tmp_path: Path, store: Store, deployment: Deployment) -> None:
    """Without it an empty bucket is an error that names the variable, and not an empty index."""
    machine = Machine(deployment, tmp_path / "disk", bucket_of(deployment, store) | {FIRST: "fail"})
    machine.start()
    try:
        assert machine.wait_exit() == 78
    finally:
        machine.end()
    assert FIRST in machine.log()


def first_start(machine: Machine, headers: dict[str, str]) -> list[Entry]:
    """The word is given once. What was written: some of it in a checkpoint, some in the log behind it. The machine runs."""
    rng = random.Random(machine.deployment.name)
    entries = [unique_entry(rng, iscc_id(at)) for at in range(BEFORE + BEHIND)]
    given = dict(machine.variables)
    machine.variables[FIRST] = "create"
    machine.start()
    machine.variables = given
    try:
        machine.wait_ready()
        with Client(machine.port) as stranger:
            assert stranger.create_index(INDEX).status == 401
        with Client(machine.port, headers=KEY | headers) as client:
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
