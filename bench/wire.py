"""HTTP requests as bytes, made before the clock starts, in a file that the load generator maps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import numpy as np

from bench.data import Assets, Bytes, code_texts, id_texts, unit_texts

INDEX = "bench"
ASSETS_PER_BATCH = 100


def request(method: str, path: str, body: bytes = b"") -> bytes:
    kind = b"Content-Type: application/json\r\n" if body else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\nContent-Length: {len(body)}\r\n".encode()
    return head + kind + b"\r\n" + body


def add_requests(assets: Assets) -> Iterator[bytes]:
    path = f"/indexes/{INDEX}/assets"
    for start in range(0, len(assets), ASSETS_PER_BATCH):
        yield request("POST", path, msgspec.json.encode(_documents(assets.part(start, start + ASSETS_PER_BATCH), start)))


def search_requests(bodies: list[Bytes], limit: int) -> Iterator[bytes]:
    for units in unit_texts(bodies):
        yield request("POST", f"/indexes/{INDEX}/search?limit={limit}", msgspec.json.encode({"units": units}))


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


def _documents(assets: Assets, start: int) -> list[dict[str, object]]:
    rows = zip(id_texts(assets), code_texts(assets), unit_texts(assets.bodies), strict=True)
    return [
        {
            "iscc_id": iscc_id,
            "iscc_code": code,
            "units": units,
            "metadata": {"name": f"Document {start + i}", "source": f"https://example.com/documents/{start + i}"},
        }
        for i, (iscc_id, code, units) in enumerate(rows)
    ]
