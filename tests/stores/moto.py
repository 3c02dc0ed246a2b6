"""moto's server, in threads of this process: starts at once, keeps objects in memory, creates atomically, checks no signature."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from moto.server import ThreadedMotoServer

from tests.stores.store import Store, with_bucket


@contextmanager
def moto_store() -> Iterator[Store]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield with_bucket(f"http://{host}:{port}", "testkey", "testsecret")
    finally:
        server.stop()
