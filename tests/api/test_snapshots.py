"""Snapshots over HTTP: what the bucket holds, a checkpoint and a drill on request, how it stands, and when a write is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.boot.front import LISTINGS_MAX
from service.boot.life import Boot
from snapshots import failpoints
from snapshots.paths import log_key
from tests.api.inside import OPENING_S, opened, started
from tests.api.isccs import iscc_id, units
from tests.system.server import wait_until

Case = Callable[[Boot, httpx.AsyncClient], Awaitable[None]]
REMOTE, LOCAL = {"tidepool-durability": "remote"}, {"tidepool-durability": "local"}
ENTRY = {"iscc_id": iscc_id(1), "units": units(1)}


def ask(directory: Path, case: Case, **values: object) -> None:
    """Runs the case against a ready service."""

    async def run() -> None:
        async with opened(directory, **values) as (boot, client):
            await case(boot, client)

    asyncio.run(run())


@contextlib.contextmanager
def held(place: str) -> Iterator[threading.Event]:
    """Whoever reaches the place waits there until the end of the block. The event is set when somebody does."""
    there, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        there.set()
        assert go_on.wait(60)

    failpoints.arm(place, hold)
    try:
        yield there
    finally:
        failpoints.disarm()
        go_on.set()


@contextlib.contextmanager
def unwritable(folder: Path) -> Iterator[None]:
    """A folder of the bucket in which nothing can be made: a link that leads nowhere has its name."""
    aside = folder.with_name(folder.name + ".aside")
    if folder.exists():
        folder.rename(aside)
    folder.symlink_to(folder.with_name("nowhere"))
    try:
        yield
    finally:
        folder.unlink()
        if aside.exists():
            aside.rename(folder)


async def until(found: Callable[[], Awaitable[bool]]) -> None:
    """Asks again and again, and lets everything else go on meanwhile."""
    async with asyncio.timeout(60):
        while not await found():
            await asyncio.sleep(0.01)


async def status(client: httpx.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get("/snapshots/status")).json()
    return found


async def metric(client: httpx.AsyncClient, name: str) -> float | None:
    lines = (await client.get("/metrics")).text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), None)


def moment(text: str) -> datetime:
    """What the interface calls a time: exact, with its zone."""
    found = datetime.fromisoformat(text)
    assert found.tzinfo is not None
    return found


def test_a_checkpoint_on_request(tmp_path: Path) -> None:
    """It holds what was written before, is listed after the ones before, and can be looked at with its files."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        before = (await client.get("/snapshots")).json()
        assert [(each["generation"], each["kind"], each["base_sequence"]) for each in before] == [(1, "claim", 0)]
        await client.post("/indexes", json={"name": "a"})
        await client.post("/indexes/a/assets", json=[ENTRY])
        began = datetime.now(UTC)
        answer = await client.post("/snapshots")
        assert answer.status_code == 201
        made = answer.json()
        assert (made["generation"], made["kind"], made["base_sequence"], made["counts"]["assets/a"]) == (2, "checkpoint", 2, 1)
        assert made["uploaded_bytes"] + made["known_bytes"] == made["bytes"] > 0
        assert made["seconds"].keys() == {"copy", "hash", "upload", "publish"}
        assert moment(made["base_time"]) <= began <= moment(made["created"]) <= datetime.now(UTC)
        listed = (await client.get("/snapshots")).json()
        assert listed[:1] == before
        assert listed[1:] == [{name: value for name, value in made.items() if name not in ("uploaded_bytes", "known_bytes", "seconds")}]
        shown = (await client.get("/snapshots/2")).json()
        assert {name: shown[name] for name in listed[1]} == listed[1]
        assert shown["files"][0]["path"] == "data.mdb"
        assert sum(file["bytes"] for file in shown["files"]) == shown["bytes"]
        for digest in shown["files"][0]["pieces"]:
            assert (tmp_path / "data" / "bucket" / "v1" / "blobs" / digest[:2] / digest).is_file()

    ask(tmp_path / "data", case)


@pytest.mark.parametrize(
    ("name", "detail"),
    [
        ("7", "{bucket} has no generation 7: it never had, or it was pruned"),
        ("0", "{bucket} has no generation 0: it never had, or it was pruned"),
        ("first", "there is no generation 'first': generations are whole numbers"),
        ("-1", "there is no generation '-1': generations are whole numbers"),
        ("²", "there is no generation '²': generations are whole numbers"),
        ("9" * 30, "there is no generation '" + "9" * 30 + "': generations are whole numbers"),
    ],
)
def test_a_generation_that_is_not_there(tmp_path: Path, name: str, detail: str) -> None:
    """404 that names it."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        answer = await client.get(f"/snapshots/{name}")
        bucket = (tmp_path / "data" / "bucket").as_uri()
        assert (answer.status_code, answer.json()) == (404, {"detail": detail.format(bucket=bucket)})

    ask(tmp_path / "data", case)


def test_a_drill_on_request(tmp_path: Path) -> None:
    """It compares searches, finds nothing wrong, leaves nothing behind, and is what the status then shows."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        assert (await status(client))["drill"] is None
        assert await metric(client, "tidepool_drill_last_success_timestamp_seconds") is None
        await client.post("/indexes", json={"name": "a"})
        await client.post("/indexes/a/assets", json=[{"iscc_id": iscc_id(number), "units": units(number)} for number in range(5)])
        answer = await client.post("/snapshots/drill")
        assert answer.status_code == 200
        found = answer.json()
        assert (found["ok"], found["problems"], found["sequence"], found["generation"]) == (True, [], 2, 1)
        assert found["queries"] > 0
        assert (await status(client))["drill"] == found
        assert await metric(client, "tidepool_drill_last_success_timestamp_seconds") == moment(found["time"]).timestamp()
        assert sorted(path.name for path in (tmp_path / "data").iterdir() if path.name.startswith("drill")) == []

    ask(tmp_path / "data", case)


def test_one_checkpoint_and_one_drill_at_a_time(tmp_path: Path) -> None:
    """The second is refused at once; everything else is answered meanwhile, and the first ends well."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        await client.post("/indexes", json={"name": "a"})
        for path, place, code in (("/snapshots", "publish.copied", 503), ("/snapshots/drill", "restore.fetched", 409)):
            with held(place) as there:
                first = asyncio.create_task(client.post(path))
                await asyncio.to_thread(there.wait, 60)
                second = await client.post(path)
                assert second.status_code == code, second.text
                assert second.headers.get("retry-after") == ("1" if code == 503 else None)
                others = [(await client.get(name)).status_code for name in ("/status", "/snapshots", "/metrics", "/indexes/a")]
                assert others == [200] * 4
            assert (await first).is_success

    ask(tmp_path / "data", case)


def test_status_says_how_the_bucket_stands(tmp_path: Path) -> None:
    """The same words in both places, and the figures of a bucket that has everything."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        await client.post("/indexes", json={"name": "a"}, headers=REMOTE)
        made = (await client.post("/snapshots")).json()
        found = await status(client)
        assert (await client.get("/status")).json()["snapshots"] == found
        assert found["bucket"] == (tmp_path / "data" / "bucket").as_uri()
        assert "not against losing the disk" in found["protection"]
        assert found | {"lineage": "", "protection": "", "bucket": ""} == {
            "bucket": "",
            "kind": "directory",
            "protection": "",
            "durability": "local",
            "owner": True,
            "unsafe_store": None,
            "trouble": None,
            "lag_seconds": 0.0,
            "lag_rows": 0,
            "backlog_bytes": 0,
            "sequence": 1,
            "shipped_sequence": 1,
            "lineage": "",
            "epoch": 1,
            "generation": 2,
            "checkpoint": {"generation": 2, "sequence": 1, "time": made["base_time"]},
            "checkpoint_trouble": None,
            "oldest_restorable": None,
            "verified": None,
            "verified_good_at": None,
            "drill": None,
            "drill_good_at": None,
        }
        assert await metric(client, "tidepool_snapshot_generation") == 2
        assert await metric(client, "tidepool_snapshot_last_success_timestamp_seconds") == moment(made["created"]).timestamp()
        assert await metric(client, 'tidepool_snapshot_uploads_total{result="ok"}') == 1
        assert await metric(client, "tidepool_snapshot_log_rows_total") == 1
        assert await metric(client, 'tidepool_bucket_seconds_count{op="put_file",result="ok"}') == 1

    ask(tmp_path / "data", case)


def test_what_was_pruned_checked_and_drilled_is_shown(tmp_path: Path) -> None:
    """What the schedule does is seen in the status and in the metrics."""

    async def case(boot: Boot, client: httpx.AsyncClient) -> None:
        await client.post("/indexes", json={"name": "a"})
        made = (await client.post("/snapshots")).json()
        chores = boot._chores
        assert chores is not None
        await asyncio.to_thread(chores.prune)
        await asyncio.to_thread(chores.verify)
        found = await status(client)
        assert moment(found["oldest_restorable"]) <= moment(made["base_time"])
        assert (found["verified"]["generation"], found["verified"]["ok"], found["verified"]["problems"]) == (2, True, [])
        assert await metric(client, "tidepool_verify_last_success_timestamp_seconds") == pytest.approx(
            moment(found["verified"]["time"]).timestamp(), abs=0.001
        )
        assert (await metric(client, "tidepool_remote_objects"), await metric(client, "tidepool_orphan_objects")) == (1, 0)
        assert await metric(client, "tidepool_remote_bytes") == made["bytes"]
        (blob,) = (path for path in (tmp_path / "data" / "bucket" / "v1" / "blobs").rglob("*") if path.is_file())
        blob.write_bytes(blob.read_bytes()[::-1])
        await asyncio.to_thread(chores.verify)
        good = found["verified_good_at"]
        assert moment(good) == moment(found["verified"]["time"])
        assert await metric(client, "tidepool_verify_problems") == 1
        assert (await status(client))["verified_good_at"] == good
        damaged = (await status(client))["verified"]
        assert damaged["ok"] is False
        assert blob.name in damaged["problems"][0]
        assert await metric(client, "tidepool_verify_failures_total") == 1
        assert await metric(client, "tidepool_verify_last_success_timestamp_seconds") == pytest.approx(moment(good).timestamp(), abs=0.001)

    ask(tmp_path / "data", case)


def test_durability_of_one_write(tmp_path: Path) -> None:
    """`remote`: the bucket has it when the answer comes. `local`: it need not. Without the header the setting decides."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        asset = f"/indexes/a/assets/{iscc_id(1)}"
        writes: list[tuple[str, str, Any]] = [
            ("POST", "/indexes", {"name": "a"}),
            ("POST", "/indexes/a/assets", [ENTRY]),
            ("DELETE", asset, None),
            ("DELETE", "/indexes/a", None),
        ]
        for number, (method, path, body) in enumerate(writes, 1):
            answer = await client.request(method, path, json=body, headers=REMOTE if number % 2 else {})
            assert answer.is_success, answer.text
            found = await status(client)
            assert (found["sequence"], found["shipped_sequence"], found["lag_rows"]) == (number, number, 0)
        assert (await client.post("/indexes", json={"name": "b"}, headers=LOCAL)).status_code == 201
        found = await status(client)
        assert (found["shipped_sequence"], found["lag_rows"], found["durability"]) == (4, 1, "remote")
        assert found["backlog_bytes"] > 0
        assert await metric(client, "tidepool_snapshot_lag_rows") == 1

    ask(tmp_path / "data", case, DURABILITY="remote", LOG_INTERVAL=60)


@pytest.mark.parametrize("word", ["", "Remote", "bucket", "remote, local", "\xff"])
def test_an_unknown_durability(tmp_path: Path, word: str) -> None:
    """400 that names what is allowed, on every route that writes; nothing is written."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        await client.post("/indexes", json={"name": "a"})
        headers = {b"tidepool-durability": word.encode("latin-1"), b"content-type": b"application/json"}
        text = "Tidepool-Durability: expected local or remote, or no such header for what ISCC_SEARCH_DURABILITY says"
        for method, path, body in (
            ("POST", "/indexes", b'{"name": "b"}'),
            ("DELETE", "/indexes/a", b""),
            ("POST", "/indexes/a/assets", b"[]"),
            ("DELETE", f"/indexes/a/assets/{iscc_id(1)}", b""),
        ):
            answer = await client.request(method, path, content=body, headers=headers)
            assert (answer.status_code, answer.json()) == (400, {"detail": text})
        assert [index["name"] for index in (await client.get("/indexes")).json()] == ["a"]

    ask(tmp_path / "data", case)


def test_without_a_bucket(tmp_path: Path) -> None:
    """404 that names the setting; the status says null; a write cannot ask for a bucket; metrics have none of its figures."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        for method, path in (
            ("GET", "/snapshots"),
            ("POST", "/snapshots"),
            ("GET", "/snapshots/1"),
            ("GET", "/snapshots/status"),
            ("POST", "/snapshots/drill"),
        ):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.json()) == (404, {"detail": "there are no snapshots: ISCC_SEARCH_SNAPSHOT_URL is none"})
        assert (await client.get("/status")).json()["snapshots"] is None
        assert (await client.post("/indexes", json={"name": "a"}, headers=REMOTE)).status_code == 400
        assert (await client.post("/indexes", json={"name": "a"}, headers=LOCAL)).status_code == 201
        assert await metric(client, "tidepool_snapshot_lag_rows") is None
        assert (await metric(client, "tidepool_disk_free_bytes") or 0) > 0
        assert not (tmp_path / "data" / "bucket").exists()

    ask(tmp_path / "data", case, SNAPSHOT_URL="none")


def test_readers_that_were_killed_are_counted(tmp_path: Path) -> None:
    """The place of a process that ended in the middle of reading is freed with the next checkpoint."""
    read = "import lmdb, sys; txn = lmdb.open(sys.argv[1], readonly=True).begin(); print('reading', flush=True); sys.stdin.read()"

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        assert await metric(client, "tidepool_lmdb_stale_readers") == 0
        command = [sys.executable, "-c", read, str(tmp_path / "data" / "live")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            reader.kill()
        assert (await client.post("/snapshots")).status_code == 201
        assert await metric(client, "tidepool_lmdb_stale_readers") == 1

    ask(tmp_path / "data", case)


def test_a_bucket_that_takes_nothing(tmp_path: Path) -> None:
    """Writes go on and the lag is seen; above the backlog they get 503; a checkpoint gets 503; when it takes again, all is well."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        await client.post("/indexes", json={"name": "a"}, headers=REMOTE)
        objects = tmp_path / "data" / "bucket" / "v1"
        with unwritable(objects / "log" / (await status(client))["lineage"]), unwritable(objects / "blobs"):
            entries = [{**ENTRY, "iscc_id": iscc_id(number), "metadata": {"text": "x" * 700_000}} for number in range(2)]
            assert [(await client.post("/indexes/a/assets", json=[entry])).status_code for entry in entries] == [201] * 2

            async def seen() -> bool:
                return (await status(client))["trouble"] is not None

            await until(seen)
            found = await status(client)
            assert "bucket failed" in found["trouble"]
            assert (found["lag_rows"], found["shipped_sequence"]) == (2, 1)
            assert found["lag_seconds"] > 0
            assert found["backlog_bytes"] > 1_400_000
            assert (await metric(client, 'tidepool_snapshot_errors_total{op="ship"}') or 0) > 0
            assert (await metric(client, 'tidepool_bucket_seconds_count{op="create",result="unreachable"}') or 0) > 0
            refused = await client.post("/indexes/a/assets", json=[ENTRY])
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert "ISCC_SEARCH_LOG_BACKLOG_BYTES" in refused.json()["detail"]
            checkpoint = await client.post("/snapshots")
            assert (checkpoint.status_code, checkpoint.headers["retry-after"]) == (503, "1")
            assert checkpoint.json()["detail"].startswith("the bucket cannot be used now: ")
            assert await metric(client, 'tidepool_snapshot_uploads_total{result="failed"}') == 1
            assert (await client.get("/indexes/a")).json()["assets"] == 2

        async def well() -> bool:
            found = await status(client)
            return found["trouble"] is None and found["lag_rows"] == 0

        await until(well)
        assert (await client.post("/snapshots")).status_code == 201
        assert (await client.post("/indexes/a/assets", json=[ENTRY], headers=REMOTE)).status_code == 201

    ask(tmp_path / "data", case, LOG_BACKLOG_BYTES=1 << 20, LOG_INTERVAL=0.05)


def test_a_bucket_that_does_not_answer(tmp_path: Path) -> None:
    """Listings wait for it, a few at most; nothing else does."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        hint = tmp_path / "data" / "bucket" / "v1" / "HEAD.json"
        hint.unlink(missing_ok=True)
        os.mkfifo(hint)  # whoever opens it for reading waits for a writer
        waiting = [asyncio.create_task(client.get("/snapshots")) for _ in range(LISTINGS_MAX)]
        last = asyncio.create_task(client.get("/snapshots/1"))  # a task of its own, so that it comes behind those that wait
        try:
            one_more = await asyncio.wait_for(last, 30)
            assert (one_more.status_code, one_more.headers["retry-after"]) == (503, "1")
            assert one_more.json() == {"detail": "4 listings of the bucket run already: send the request again"}
            for path in ("/status", "/snapshots/status", "/metrics", "/indexes", "/readyz"):
                assert (await asyncio.wait_for(client.get(path), 30)).status_code == 200
            assert (await client.post("/indexes", json={"name": "a"}, headers=REMOTE)).status_code == 201
            assert not any(task.done() for task in waiting)
        finally:
            writer = os.open(hint, os.O_RDWR)
            answers = await asyncio.gather(*waiting)
            os.close(writer)
            hint.unlink()
        assert [answer.status_code for answer in answers] == [200] * LISTINGS_MAX
        assert (await client.get("/snapshots/1")).status_code == 200

    ask(tmp_path / "data", case)


def test_a_write_that_another_process_shut_out(tmp_path: Path) -> None:
    """503 with Retry-After, which says that the bucket does not have it; the process is at its end, and the metric says why."""

    async def run() -> None:
        with contextlib.suppress(AssertionError):  # closing tells that the bucket lacks the last write
            async with opened(tmp_path / "data", LOG_INTERVAL=60) as (boot, client):
                await client.post("/indexes", json={"name": "a"}, headers=REMOTE)
                found = await status(client)
                key = log_key(found["lineage"], int(await metric(client, "tidepool_snapshot_log_objects_total") or 0) + 2)
                (tmp_path / "data" / "bucket" / key).write_bytes(b"of another writer")
                answer = await client.post("/indexes", json={"name": "b"}, headers=REMOTE)
                results.append(answer)
                wait_until(lambda: boot.state.name == "failed", OPENING_S, "the process to give up")
                results.append(await client.get("/metrics"))
                results.append(await client.get("/status"))

    results: list[httpx.Response] = []
    asyncio.run(run())
    answer, metrics, told = results
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "not in the bucket yet" in answer.json()["detail"]
    assert "tidepool_snapshot_fenced_total 1.0" in metrics.text
    assert 'tidepool_state{state="failed"} 1.0' in metrics.text
    assert told.json()["state"] == "failed"


def test_before_the_bucket_is_owned(tmp_path: Path) -> None:
    """503 with Retry-After and the reason; the status answers with what is known."""

    async def run() -> None:
        async with started(tmp_path / "data") as (_, client):
            text = "this process does not own the bucket yet: the data directory is being opened; send the request again later"
            for method, path in (("GET", "/snapshots"), ("POST", "/snapshots"), ("GET", "/snapshots/1"), ("POST", "/snapshots/drill")):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"detail": text}, "1")
            found = await status(client)
            assert (found["owner"], found["lag_rows"], found["generation"]) == (False, None, None)

    asyncio.run(run())


def test_how_far_a_restore_is(tmp_path: Path) -> None:
    """`/readyz` says what goes on, how many bytes there are and how many are here; afterwards the metrics say what it took."""

    async def fill(_: Boot, client: httpx.AsyncClient) -> None:
        await client.post("/indexes", json={"name": "a"})
        await client.post("/indexes/a/assets", json=[ENTRY])
        sizes.append((await client.post("/snapshots")).json()["bytes"])

    async def restore() -> None:
        async with started(tmp_path / "data") as (boot, client):
            with held("restore.fetched") as there:
                boot.start(0)
                await asyncio.to_thread(there.wait, 60)
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                told = answer.json()
                assert (told["state"], told["phase"], told["bytes_done"], told["bytes_total"]) == ("restoring", "fetching", *sizes * 2)
                assert told["eta_s"] == 0.0
                assert "generation 2 of" in told["reason"]
                assert (await client.get("/healthz")).status_code == 200
                assert (await client.get("/indexes")).headers["retry-after"] == "2"
            wait_until(lambda: boot.state.name == "ready", OPENING_S, "the service to be ready")
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            assert (await client.get("/indexes/a")).json()["assets"] == 1
            assert await metric(client, "tidepool_restore_bytes_total") == sizes[0]
            assert (await metric(client, "tidepool_restore_duration_seconds") or 0) > 0

    sizes: list[int] = []
    ask(tmp_path / "data", fill)
    (tmp_path / "data" / "live").rename(tmp_path / "lost")
    asyncio.run(restore())
