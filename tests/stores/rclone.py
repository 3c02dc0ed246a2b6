"""`rclone serve s3`: a store that ignores conditions, so that every create succeeds. The probe must refuse it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stores.children import Children
from tests.stores.store import Store, with_bucket
from tests.system.server import free_port

RCLONE = Path(sys.executable).parent / "rclone"


@contextmanager
def rclone_store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory(prefix="rclone-") as directory, Children(Path(directory) / "log") as children:
        served = Path(directory) / "served"
        served.mkdir()
        address = f"127.0.0.1:{free_port()}"
        children.start("rclone", [RCLONE, "serve", "s3", "--config", "", "--addr", address, "--auth-key", "testkey,testsecret", served])
        children.wait_answers(f"http://{address}")
        yield with_bucket(f"http://{address}", "testkey", "testsecret")
