"""Refused requests cost nothing that lasts."""

from __future__ import annotations

from pathlib import Path

import lmdb

from tests.system.client import Client
from tests.system.entries import Entries, iscc_id
from tests.system.server import Server

REFUSALS = 700  # more than LMDB has places for readers


def test_requests_for_what_is_not_there_leave_no_reader_behind(tmp_path: Path) -> None:
    """Each takes its place among LMDB's readers for as long as it runs."""
    with Server(tmp_path / "data") as server, Client(server.port) as client:
        client.create_index("a")
        query = Entries(1).query()
        with lmdb.open(str(tmp_path / "data" / "live"), readonly=True, max_dbs=16, lib_version=0) as env:
            for number in range(REFUSALS):
                assert client.get("a", iscc_id(number)).status == 404
                assert client.search("nothing", query).status == 404
            assert len(env.readers().splitlines()) < 20
        assert client.search("a", query).status == 200
