"""Random requests as clients send them: several indexes, updates, deletes, simprints; and what an engine holds of them, table by table."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from service.engine.engine import Engine
from service.engine.journal import LogRecord
from service.engine.layout import index_rows, pack_simprints, records, type_rows
from service.engine.options import Options
from service.engine.requests import AddAssets, Asset, Body, CreateIndex, DeleteAsset, DeleteIndex, Request, Simprint, Simprints
from service.engine.store import Store
from tests.engine.building import CONTENT, DATA, INSTANCE, META, key, opened, unit

KEPT = Options(segment_codes=64, disk_free_min_bytes=0, keep_log=True)
NAMES = ("a", "b", "c")
KEYS = 60  # of each index: few, so that assets are updated and deleted often

Tables = dict[str, object]


def random_requests(rng: random.Random, count: int) -> list[Request]:
    """Many are refused or change nothing, as it happens."""
    bodies = [rng.randbytes(rng.choice((8, 16, 32))) for _ in range(200)]  # shared by assets
    requests: list[Request] = [CreateIndex(name) for name in NAMES]
    while len(requests) < count:
        name = rng.choice(NAMES)
        turn = rng.random()
        if turn < 0.70:
            requests.append(AddAssets(name, [_asset(rng, bodies) for _ in range(rng.randint(1, 5))]))
        elif turn < 0.96:
            requests.append(DeleteAsset(name, 0, key(rng.randrange(KEYS))))
        elif turn < 0.97:
            requests.append(DeleteIndex(name))
        else:
            requests.append(CreateIndex(name))
    return requests


def _asset(rng: random.Random, bodies: list[bytes]) -> Asset:
    units = [unit(header, rng.choice(bodies)) for header in rng.sample((META, CONTENT, DATA, INSTANCE), rng.randint(1, 4))]
    simprints = {
        f"T{width}": Simprints(width, pack_simprints([Simprint(Body(rng.choice(bodies)[:width]), at, 1) for at in range(3)]))
        for width in rng.sample((4, 8), 1)
    }
    metadata = b'{"n": %d}' % rng.randrange(5)
    return Asset(0, key(rng.randrange(KEYS)), None, units, metadata, rng.choice((None, {}, simprints)))


def commit_in_groups(engine: Engine, requests: list[Request], rng: random.Random) -> None:
    """Groups of any size. What is refused is refused."""
    at = 0
    while at < len(requests):
        size = rng.randint(1, 12)
        engine.commit(requests[at : at + size])
        at += size


def whole_log(engine: Engine) -> list[LogRecord]:
    return engine.log_after(0, 1 << 40)


def make_history(directory: Path, seed: int, count: int = 800) -> list[LogRecord]:
    """An engine whose log was never released, and its log."""
    rng = random.Random(seed)
    with opened(directory, KEPT) as engine:
        commit_in_groups(engine, random_requests(rng, count), rng)
        return whole_log(engine)


def tables(directory: Path) -> Tables:
    """What a directory that nobody has open holds, apart from what may be cut differently (`tail`, `segments`) and the log."""
    store = Store(directory / "live")
    try:
        with store.read() as txn:
            found: Tables = {name: list(txn.cursor(db=getattr(store, name)).iternext()) for name in ("postings", "simprints")}
            for name, decoder in (("assets", records), ("indexes", index_rows), ("types", type_rows)):
                found[name] = [(place, decoder.decode(value)) for place, value in txn.cursor(db=getattr(store, name)).iternext()]
            found["meta"] = list(txn.cursor(db=store.meta).iternext())
        return found
    finally:
        store.close()


def pieces(log: list[LogRecord], rng: random.Random) -> Iterator[list[LogRecord]]:
    """The log in runs of random length, each as somebody would hand it over."""
    at = 0
    while at < len(log):
        size = rng.randint(1, 80)
        yield log[at : at + size]
        at += size
