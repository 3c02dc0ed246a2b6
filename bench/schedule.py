"""The engine and the keeper in this process, with a clock that jumps: what an hour uploads, how fast the log is replayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from service.api import decode
from service.api.access import Limits
from service.boot.arrival import Arrival
from service.boot.keeper import Keeper
from service.engine.engine import Engine
from service.engine.files import LIVE, DirectoryLock
from service.engine.options import Options
from service.engine.requests import AddAssets, CreateIndex
from snapshots.directory import DirectoryBucket
from snapshots.prefix import Prefix
from snapshots.start import Allowed
from tests.corpus import Corpus

INDEX = "hour"
TURNS = 12  # of five minutes
ASSETS_PER_TURN = 60_000  # 200 a second
BATCH = 100


def amplification(folder: Path, *, assets: int) -> tuple[float, int, int]:
    """Bytes in the bucket for each byte of log, checkpoints, bytes of log. Assets are updated, so the index keeps its size."""
    directory = folder / "data"
    directory.mkdir()
    bucket = DirectoryBucket(folder / "bucket")
    lock = DirectoryLock(directory)
    arrival = Arrival(
        directory, lock, Prefix(bucket), Options(keep_log=True), Allowed(create=True, serve_unreachable=False), _quiet, _quiet
    )
    arrived = arrival.run()
    if arrived.owned is None:
        raise AssertionError("a directory is always reachable")
    keeper = Keeper(arrived.engine, arrival.prefix, directory, directory / LIVE, arrived.owned, 0.2, _quiet, _quiet)
    keeper.start()
    arrived.engine.start_background()
    keeper.commit([CreateIndex(INDEX)])
    for request in requests(assets, seed=0):
        keeper.commit([request])
    keeper.checkpoint()
    _settle(keeper, arrived.engine)
    uploaded, logged, made = keeper.checkpoints.uploaded_bytes, keeper.shipper.figures.bytes, keeper.checkpoints.done
    for turn in range(TURNS):
        for request in requests(min(assets, ASSETS_PER_TURN), seed=turn + 1):
            keeper.commit([request])
        _settle(keeper, arrived.engine)
        keeper.checkpoint_if_due()
    log_bytes = keeper.shipper.figures.bytes - logged
    base_bytes = keeper.checkpoints.uploaded_bytes - uploaded
    keeper.stop(60)
    arrived.engine.close()
    lock.release()
    return (log_bytes + base_bytes) / log_bytes, keeper.checkpoints.done - made, log_bytes


def replay_rate(folder: Path, *, assets: int) -> tuple[float, float]:
    """Assets and bytes of log that are replayed in a second."""
    source = Engine.open(folder / "source", Options(keep_log=True), on_event=_quiet)
    source.commit([CreateIndex(INDEX)])
    for request in requests(assets, seed=0):
        source.commit([request])
    records = source.log_after(0, 1 << 40)
    target = Engine.open(folder / "target", Options(), on_event=_quiet)
    started = time.perf_counter()
    target.replay(records)
    seconds = time.perf_counter() - started
    for engine in (source, target):
        engine.close()
    return assets / seconds, sum(len(record.data) for record in records) / seconds


def requests(assets: int, seed: int) -> Iterator[AddAssets]:
    """The same asset keys for every seed, with other units."""
    for batch in Corpus(seed, clusters=assets // 20, per_cluster=20).batches(BATCH):
        yield decode.decode_assets(INDEX, msgspec.json.encode(batch), Limits())


def _settle(keeper: Keeper, engine: Engine) -> None:
    """The bucket has everything."""
    keeper.wait_shipped(engine.sequence)


def _quiet(*_: object) -> None:
    """Nothing is reported."""
