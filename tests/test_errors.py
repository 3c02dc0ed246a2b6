"""Errors are part of the product: for each class the exact answer that a person gets, which says what to do.

Those of single elements (bad ISCC, bad JSON) stand here once; `tests/api` has their variants.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.api.errors import STATUSES, ApiError
from service.app import create_app
from service.boot.life import Boot
from service.engine import codes, errors
from service.engine.engine import Engine
from service.engine.errors import EngineError
from service.telemetry import Metrics
from tests.api.inside import opened, settings, started
from tests.api.isccs import code, iscc_id, simprint, units
from tests.api.stub import NoAccess
from tests.system.server import Server

Case = Callable[[Boot, httpx.AsyncClient], Awaitable[None]]


def problem(kind: str, msg: str, *place: str | int) -> list[dict[str, Any]]:
    """The detail of a 422 with one problem."""
    return [{"loc": ["body", *place], "msg": msg, "type": kind}]


def ask(directory: Path, case: Case, **values: object) -> None:
    """Runs the case against a ready service with an index `a`."""

    async def run() -> None:
        async with opened(directory, **values) as (boot, client):
            assert (await client.post("/indexes", json={"name": "a"})).status_code == 201
            await case(boot, client)

    asyncio.run(run())


def test_every_kind_of_error_has_a_status() -> None:
    """No error of the engine or of the interface is left to chance."""

    ours = set(ApiError.__subclasses__())
    theirs = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, EngineError)}
    without_own = {errors.Damaged, errors.Defect, errors.Fatal, errors.Locked, errors.Unwritable}
    assert ours | {codes.CodeError} | theirs - without_own == STATUSES.keys()
    assert STATUSES[EngineError] == 500


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (
            b'[{"iscc_id":"%s","units":["%s","ISCC:EAAU73PYC5QY5KO7AA"]}]' % (iscc_id(1).encode(), units(1)[0].encode()),
            422,
            problem("iscc", "unit body has 9 bytes, its header says 8: send one code or a list of units, not a sequence", 0, "units", 1),
        ),
        (
            b'[{"iscc_id":"%s","iscc_code":"%s"}]' % (iscc_id(1).encode(), code(1).lower().replace("iscc", "ISCC").encode()),
            422,
            problem("type_error", "expected an ISCC-CODE: 'ISCC:' and base32 in upper case (A-Z, 2-7), no padding", 0, "iscc_code"),
        ),
        (b'{"iscc_id": 5', 422, problem("type_error", "Expected `array`, got `object`")),
        (b"[{]", 422, problem("json_invalid", "JSON is malformed: expected '\"' (byte 2)")),
        (b"[{}]", 400, "Asset must have iscc_id field when adding to index"),
    ],
)
def test_bad_iscc_and_bad_json(tmp_path: Path, body: bytes, status: int, detail: Any) -> None:
    """The place and the reason, in words that say what would be right."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        answer = await client.post("/indexes/a/assets", content=body, headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})

    ask(tmp_path / "data", case)


def test_unknown_index_and_wrong_realm(tmp_path: Path) -> None:
    """What is not there is named; a realm that does not fit says which one does."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        unknown = await client.post("/indexes/nope/search", json={"units": units(1)})
        assert (unknown.status_code, unknown.json()) == (404, {"detail": "Index 'nope' not found"})
        await client.post("/indexes/a/assets", json=[{"iscc_id": iscc_id(1), "units": units(1)}])
        other = iscc_id(1, realm=1)
        foreign = await client.post("/indexes/a/assets", json=[{"iscc_id": other, "units": units(1)}])
        text = f"Realm ID mismatch: index has realm=0, but asset '{other}' has realm=1. All assets in an index must have the same realm ID."
        assert (foreign.status_code, foreign.json()) == (400, {"detail": text})

    ask(tmp_path / "data", case)


def test_too_large(tmp_path: Path) -> None:
    """413 with the limit, what to do, and the setting that changes it."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        answer = await client.post("/indexes/a/assets", content=b"[" + b" " * 2000 + b"]", headers={"content-type": "application/json"})
        text = "the body is larger than 1024 bytes: send less in one request, or raise ISCC_SEARCH_MAX_BODY_BYTES"
        assert (answer.status_code, answer.json()) == (413, {"detail": text})

    ask(tmp_path / "data", case, MAX_BODY_BYTES=1024)


def test_a_full_read_lane(tmp_path: Path) -> None:
    """503 with Retry-After at once, while probes answer; afterwards everything goes on."""

    async def case(boot: Boot, client: httpx.AsyncClient) -> None:
        gate = threading.Event()

        def hold(_: Engine) -> bool:
            return gate.wait(30)

        waiting = [asyncio.ensure_future(boot.read(hold)) for _ in range(2)]
        answer = await client.get("/indexes")
        text = "the read lane is full: 1 requests wait (ISCC_SEARCH_READ_QUEUE), send the request again"
        assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"detail": text}, "1")
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz", "/status", "/metrics")] == [200] * 4
        gate.set()
        await asyncio.gather(*waiting)
        assert (await client.get("/indexes")).status_code == 200

    ask(tmp_path / "data", case, READ_THREADS=1, READ_QUEUE=1)


def test_write_lane_full(tmp_path: Path) -> None:
    """503 with the limit, its setting and Retry-After; what was accepted before is stored."""

    async def case(boot: Boot, client: httpx.AsyncClient) -> None:
        engine = await boot.read(lambda engine: engine)
        with engine._writing:  # a commit that takes long
            first = asyncio.create_task(client.post("/indexes", json={"name": "b"}))
            while not boot._lane_depths()["write"]:
                await asyncio.sleep(0)
            answer = await client.post("/indexes", json={"name": "c"})
            text = "the write lane is full: 1 writes wait (ISCC_SEARCH_WRITE_QUEUE), send the request again"
            assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"detail": text}, "1")
        assert (await first).status_code == 201
        assert [index["name"] for index in (await client.get("/indexes")).json()] == ["a", "b"]

    ask(tmp_path / "data", case, WRITE_QUEUE=1)


def test_a_search_that_was_cut_says_so(tmp_path: Path) -> None:
    """`truncated` is there only then."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        entries = [{"iscc_id": iscc_id(number), "units": units(1)} for number in range(3)]
        assert (await client.post("/indexes/a/assets", json=entries[:2])).status_code == 201
        assert "truncated" not in (await client.post("/indexes/a/search", json={"units": units(1)})).json()
        assert (await client.post("/indexes/a/assets", json=entries[2:])).status_code == 201
        answer = (await client.post("/indexes/a/search", json={"units": units(1)})).json()
        assert answer["truncated"] is True
        assert [match["iscc_id"] for match in answer["global_matches"]] == [iscc_id(0), iscc_id(1)]

    ask(tmp_path / "data", case, MAX_CANDIDATES=2)


def test_the_realm_of_an_asset_that_is_deleted(tmp_path: Path) -> None:
    """The same words as for one that is read."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        assert (await client.post("/indexes/a/assets", json=[{"iscc_id": iscc_id(1), "units": units(1)}])).status_code == 201
        text = f"Realm mismatch: ISCC-ID '{iscc_id(1, 1)}' has realm=1, but expected realm=0. Cannot query assets from different realm."
        for answer in (
            await client.delete(f"/indexes/a/assets/{iscc_id(1, 1)}"),
            await client.post("/indexes/a/search", json={"iscc_id": iscc_id(1, 1)}),
        ):
            assert (answer.status_code, answer.json()) == (400, {"detail": text})

    ask(tmp_path / "data", case)


@pytest.mark.parametrize(
    ("setting", "entry", "text"),
    [
        ("MAX_UNITS", {"units": units(1)}, "4 units: at most 3 are allowed, the limit is ISCC_SEARCH_MAX_UNITS"),
        (
            "MAX_SIMPRINTS",
            {"simprints": {"T": [{"simprint": simprint(at), "offset": at, "size": 1} for at in range(4)]}},
            "4 simprints: at most 3 are allowed, the limit is ISCC_SEARCH_MAX_SIMPRINTS",
        ),
    ],
)
def test_a_limit_of_one_asset(tmp_path: Path, setting: str, entry: dict[str, Any], text: str) -> None:
    """422 that names what there is too much of, the limit and its setting; nothing is stored."""

    async def case(_: Boot, client: httpx.AsyncClient) -> None:
        answer = await client.post("/indexes/a/assets", json=[{"iscc_id": iscc_id(1), **entry}])
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["msg"] == text
        assert (await client.get("/indexes/a")).json()["assets"] == 0

    ask(tmp_path / "data", case, **{setting: 3})


def test_not_ready(tmp_path: Path) -> None:
    """503 with the state, the reason and Retry-After, on data routes and on `/readyz`; probes of life answer 200."""

    async def run() -> None:
        async with started(tmp_path / "data") as (_, client):
            text = "the service is not ready, its state is opening: the data directory is being opened; send the request again soon"
            for method, path in (("GET", "/indexes"), ("DELETE", "/indexes/a"), ("GET", "/indexes/a/assets/x")):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (503, {"detail": text}, "2")
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert ready.json() == {"status": "not_ready", "state": "opening", "reason": "the data directory is being opened"}
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/status")).json()["state"] == "opening"
            assert "tidepool_ready 0.0" in (await client.get("/metrics")).text

    asyncio.run(run())


def test_disk_full(tmp_path: Path) -> None:
    """507 that says what to do; nothing was stored, and reads go on."""

    async def run() -> None:
        async with opened(tmp_path / "data", DISK_FREE_MIN_BYTES=1 << 40) as (_, client):
            answer = await client.post("/indexes", json={"name": "a"})
            assert answer.status_code == 507
            assert re.fullmatch(
                rf"the disk of {tmp_path}/data/live has \d+ MB left and 1048576 MB are kept free \(ISCC_SEARCH_DISK_FREE_MIN_BYTES\): "
                "nothing was stored; free space and send the request again",
                answer.json()["detail"],
            )
            assert (await client.get("/indexes")).json() == []

    asyncio.run(run())


def test_a_second_process(tmp_path: Path) -> None:
    """It ends with code 1 and one line that names the first process and the directory; the first is not disturbed."""
    with Server(tmp_path / "data") as first:
        second = Server(tmp_path / "data")
        second.start()
        try:
            assert second.wait_exit() == 1
        finally:
            second.end()
        text = (
            f"tidepool: the data directory {tmp_path / 'data'} is in use by process {first.process.pid}: "
            "stop that process, or give this one another ISCC_SEARCH_INDEX_URI"
        )
        assert text in second.log().splitlines()
        assert httpx.get(f"{first.url}/indexes").json() == []


def test_a_defect_is_json_with_a_request_id(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error tells nothing but the id under which the log has it, and the service goes on."""

    async def run() -> None:
        app = create_app(NoAccess(), Metrics(), settings(tmp_path))
        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]  # the same protocol by other names
        async with httpx.AsyncClient(transport=transport, base_url="http://inside") as client:
            answer = await client.get("/indexes", headers={"x-request-id": "my-id.1"})
            text = "internal error, see the log for request my-id.1"
            assert (answer.status_code, answer.json()) == (500, {"detail": text, "request_id": "my-id.1"})
            assert answer.headers["x-request-id"] == "my-id.1"
            assert (await client.get("/healthz")).status_code == 200

    asyncio.run(run())
    assert "unexpected error" in caplog.text
    assert "AssertionError" in caplog.text
