"""A proxy in front of a store that does what stores do on bad days: refuse, hang, lose answers, cut them short, lie.

`faulty.next("PUT", lost)` holds for one request, `faulty.always("DELETE", answer(204))` for all. Others pass through.
"""

from __future__ import annotations

import http.client
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from tests.stores.store import Store

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "expect"}


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Request(NamedTuple):
    """As it came. `pass_on` asks the store behind; `reply`, `send` (raw bytes) and `hang_up` answer; a fault calls what it wants."""

    peer: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    pass_on: Callable[[], Answer]
    reply: Callable[[Answer], None]
    send: Callable[[bytes], object]
    hang_up: Callable[[], None]
    wait_gone: Callable[[], None]


Fault = Callable[[Request], None]


def answer(status: int, code: str = "", **headers: str) -> Fault:
    """An answer of the proxy's own; the store hears nothing."""
    body = f"<Error><Code>{code}</Code><Message>a fault of the test</Message></Error>".encode() if code else b""
    return lambda request: request.reply(Answer(status, list(headers.items()), body))


def lost(request: Request) -> None:
    """The store does it; the connection ends without an answer."""
    request.pass_on()
    request.hang_up()


def reset(request: Request) -> None:
    """The connection ends and the store hears nothing."""
    request.hang_up()


def late(request: Request) -> None:
    """The store does it; the answer does not come while the client waits."""
    request.pass_on()
    request.wait_gone()


def hung(request: Request) -> None:
    """The store hears nothing and no answer comes while the client waits."""
    request.wait_gone()


def cut(request: Request) -> None:
    """Half of the body, and the connection ends."""
    found = request.pass_on()
    length = ("Content-Length", str(len(found.body)))
    request.reply(Answer(found.status, [*found.headers, length], found.body[: len(found.body) // 2]))
    request.hang_up()


class Faulty:
    """Lives as long as `faulty_store` is open. `seen` are all requests, in the order in which they came."""

    def __init__(self, store: Store) -> None:
        self.seen: list[Request] = []
        self.store = store
        self._once: dict[str, deque[Fault]] = defaultdict(deque)
        self._ever: dict[str, Fault] = {}
        self._lock = threading.Lock()

    def next(self, method: str, *faults: Fault) -> None:
        self._once[method].extend(faults)

    def always(self, method: str, fault: Fault) -> None:
        self._ever[method] = fault

    def fault_of(self, request: Request) -> Fault | None:
        with self._lock:
            self.seen.append(request)
            waiting = self._once[request.method]
            return waiting.popleft() if waiting else self._ever.get(request.method)


@contextmanager
def faulty_store(behind: Store, certificate: tuple[str, str] | None = None) -> Iterator[Faulty]:
    """`faulty.store` is the way through the proxy; with TLS when there are files of a certificate for localhost and of its key."""

    class Handler(_Handler):
        address = urlsplit(behind.endpoint).netloc

        def faulty(self) -> Faulty:
            return faulty

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    endpoint = f"http://127.0.0.1:{server.server_port}"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        endpoint = f"https://localhost:{server.server_port}"
    faulty = Faulty(msgspec.structs.replace(behind, endpoint=endpoint))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield faulty
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    address = ""

    def faulty(self) -> Faulty:
        raise NotImplementedError

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError):  # the client gave up: that is what some tests want
            self.close_connection = True

    def do(self) -> None:
        body = self._body()
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_BY_HOP}
        request = Request(
            str(self.client_address),
            self.command,
            self.path,
            headers,
            body,
            pass_on=lambda: self._pass_on(headers, body),
            reply=self._reply,
            send=self.wfile.write,
            hang_up=self._hang_up,
            wait_gone=self._wait_gone,
        )
        fault = self.faulty().fault_of(request)
        if fault:
            fault(request)
        else:
            request.reply(request.pass_on())

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_CONNECT = do  # noqa: N815 - names of the standard library

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        blocks = []
        while size := int(self.rfile.readline(), 16):
            blocks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(blocks)

    def _pass_on(self, headers: dict[str, str], body: bytes) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(self.command, self.path, body, headers)
            found = connection.getresponse()
            dropped = HOP_BY_HOP - {"content-length"} if self.command == "HEAD" else HOP_BY_HOP
            kept = [(name, value) for name, value in found.getheaders() if name.lower() not in dropped]
            return Answer(found.status, kept, found.read())
        finally:
            connection.close()

    def _reply(self, found: Answer) -> None:
        self.send_response(found.status)
        names = {name.lower() for name, _ in found.headers}
        for name, value in found.headers:
            self.send_header(name, value)
        if "content-length" not in names and found.status != 204:
            self.send_header("Content-Length", str(len(found.body)))
        self.end_headers()
        self.wfile.write(found.body)

    def _hang_up(self) -> None:
        self.close_connection = True

    def _wait_gone(self) -> None:
        """Until the client closes; it has nothing more to say."""
        self.rfile.read(1)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
        pass
