"""moto's server, in threads of this process: starts at once, keeps objects in memory, checks no signature.

It looks whether a name is taken and then takes it: of 16 creates at the same moment on a busy machine two may win. One PUT at a time makes
it the atomic store that it stands for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.server import ThreadedMotoServer

from tests.stores.store import Store, with_bucket


@contextmanager
def moto_store() -> Iterator[Store]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    assert server._server is not None
    server._server.app = one_put_at_a_time(server._server.app)
    try:
        host, port = server.get_host_and_port()
        yield with_bucket(f"http://{host}:{port}", "testkey", "testsecret")
    finally:
        server.stop()


def one_put_at_a_time(app: Any) -> Any:
    lock = threading.Lock()

    def answer(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["REQUEST_METHOD"] != "PUT":
            return app(environ, start_response)
        with lock:
            return app(environ, start_response)

    return answer
