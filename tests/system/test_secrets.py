"""What is sent stays where it was sent: no header, body, path or credential is found in the log, at any level."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import httpx
import pytest

from tests.stores import moto_store
from tests.system.client import Client
from tests.system.entries import iscc_id
from tests.system.estate import INDEX, REMOTE, checkpoint, new_entry
from tests.system.server import Server

SECRET = "hush-0001"
SENT = [f"hush-{number:04}" for number in range(2, 16)]


def hush(number: int) -> str:
    return SENT[number - 2]


def send_secrets(server: Server) -> None:
    """In every place of a request, to routes that take them and to routes that refuse them."""
    key = {"x-api-key": SECRET}
    with httpx.Client(base_url=server.url, headers=key, timeout=30) as http:
        http.get("/indexes", headers={"x-api-key": hush(2), "authorization": f"Bearer {hush(3)}", "cookie": f"session={hush(4)}"})
        http.get("/indexes", headers={"x-request-id": f"{hush(5)} unsafe", "user-agent": hush(6), "traceparent": hush(7)})
        http.get(f"/indexes/{hush(8)}/search", params={"iscc_code": hush(9), "limit": hush(10)})
        http.put(f"/log-level/{hush(11)}")
        http.post(f"/indexes/{INDEX}/assets", json=[{"iscc_id": iscc_id(5), "units": [hush(12)], "metadata": {"name": hush(13)}}])
        http.post(f"/indexes/{INDEX}/assets", content=f'{{"{hush(14)}": '.encode() + b"\xff", headers={"content-type": "application/json"})
        stored = {**new_entry(1), "metadata": {"name": hush(15)}}
        assert http.post(f"/indexes/{INDEX}/assets", json=[stored]).status_code == 201
        assert hush(15) in http.get(f"/indexes/{INDEX}/assets/{stored['iscc_id']}").text


@pytest.mark.parametrize("level", ["debug", "info"])
def test_nothing_that_was_sent_is_logged(tmp_path: Path, level: str) -> None:
    """The log tells of every request and of every call of the bucket, and has none of what was sent, nor a credential."""
    with moto_store() as store:
        credentials = {"AWS_ACCESS_KEY_ID": "hush-access", "AWS_SECRET_ACCESS_KEY": "hush-secret", "AWS_SESSION_TOKEN": "hush-token"}
        server = Server(
            tmp_path / "data",
            API_SECRET=SECRET,
            LOG_LEVEL=level,
            SNAPSHOT_URL=store.url,
            SNAPSHOT_MISSING="create",
        ).given({**store.environment, **credentials})
        with server, Client(server.port, headers={"x-api-key": SECRET, **REMOTE}) as client:
            client.create_index(INDEX)
            send_secrets(server)
            checkpoint(client)
            assert server.stop() == 0
    log = server.log()
    assert "hush" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["status"] for line in lines if line["message"] == "request"} >= {200, 201, 400, 401, 422}
    assert any(line["message"] == "bucket" for line in lines) == (level == "debug")


def test_the_level_changes_while_the_service_runs(tmp_path: Path) -> None:
    """Up and down, from the next line on; what is no level is refused with the words that are."""

    def requests() -> int:
        return server.log().count('"message":"request"')

    with Server(tmp_path / "data") as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/log-level").json() == {"level": "info"}
        assert http.put("/log-level/warning").json() == {"level": "warning"}
        quiet = requests()
        http.post("/indexes", json={"name": INDEX})
        assert requests() == quiet
        assert http.put("/log-level/debug").json() == {"level": "debug"}
        http.post(f"/indexes/{INDEX}/assets", json=[new_entry(1)])
        assert requests() > quiet
        assert '"message":"commit"' in server.log()
        wrong = http.put("/log-level/loud")
        assert (wrong.status_code, wrong.json()) == (
            400,
            {"detail": "expected one of debug, info, warning, error, critical at the end of the path"},
        )
        assert http.get("/log-level").json() == {"level": "debug"}


def test_the_level_can_be_changed_before_the_service_is_ready(tmp_path: Path) -> None:
    """When a start hangs is when somebody wants to know more. The key is needed all the same."""
    with Server(tmp_path / "data", API_SECRET=SECRET, DRAIN_GRACE_SECONDS=2, DRAIN_SECONDS=20) as server:
        server.process.send_signal(signal.SIGTERM)
        assert httpx.put(f"{server.url}/log-level/debug").status_code == 401
        assert httpx.put(f"{server.url}/log-level/debug", headers={"x-api-key": SECRET}).status_code == 200
        assert server.wait_exit() == 0
