"""HTTP requests as bytes, made before the clock starts, in a file that the load generator maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from tests.corpus import Asset, Corpus

INDEX, EMPTY_INDEX = "bench", "empty"
ASSETS_PER_BATCH = 100


def request(method: str, path: str, body: bytes = b"") -> bytes:
    kind = b"Content-Type: application/json\r\n" if body else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n".encode()
    return head + kind + b"\r\n" + body


def add_requests(corpus: Corpus) -> Iterator[bytes]:
    for batch in corpus.batches(ASSETS_PER_BATCH):
        yield request("POST", f"/indexes/{INDEX}/assets", msgspec.json.encode(batch))


def search_requests(queries: list[Asset], limit: int, index: str = INDEX) -> Iterator[bytes]:
    for query in queries:
        yield request("POST", f"/indexes/{index}/search?limit={limit}", msgspec.json.encode(query))


def write_requests(path: Path, requests: Iterable[bytes]) -> Path:
    """One request behind the other; where each ends stands in a second file."""
    ends, end = [], 0
    with path.open("wb") as file:
        for data in requests:
            file.write(data)
            end += len(data)
            ends.append(end)
    np.save(ends_path(path), np.array(ends, dtype=np.int64))
    return path


def ends_path(path: Path) -> Path:
    return path.with_suffix(".ends.npy")
