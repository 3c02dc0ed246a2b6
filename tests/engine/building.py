"""What the engine's tests build: engines in a temporary directory, units, assets, and the scores that they should get."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.engine.engine import Engine
from service.engine.errors import EngineError
from service.engine.layout import pack_simprints, unpack_simprints
from service.engine.options import Options
from service.engine.requests import AddAssets, Answer, Asset, CreateIndex, Key, Query, Raw, Request, SearchAnswer, Simprint, Simprints

META, CONTENT, DATA, INSTANCE = (0, 0), (2, 0), (3, 0), (4, 0)
SMALL = Options(segment_codes=64, disk_free_min_bytes=0)
Events = list[tuple[str, dict[str, object]]]


@contextmanager
def opened(directory: Path, options: Options = SMALL, events: Events | None = None) -> Iterator[Engine]:
    """An engine that has caught up. Its background does not run: tests call its steps."""
    seen = events if events is not None else []
    engine = Engine.open(directory, options, on_event=lambda name, facts: seen.append((name, facts)))
    try:
        engine.catch_up()
        yield engine
    finally:
        engine.close()


def do(engine: Engine, *requests: Request) -> Answer:
    """Commits one group in which nothing is refused; the last answer."""
    last: Answer = None
    for answer in engine.commit(requests):
        if isinstance(answer, EngineError):
            raise answer
        last = answer
    return last


def create(engine: Engine, name: str = "a") -> None:
    do(engine, CreateIndex(name))


def add(engine: Engine, *assets: Asset, index: str = "a") -> Answer:
    return do(engine, AddAssets(index, list(assets)))


def settle(engine: Engine) -> None:
    """All background work that waits."""
    while engine.upkeep_step():
        pass


def key(number: int) -> Key:
    return Key(number.to_bytes(8, "big"))


def unit(header: tuple[int, int], body: bytes) -> Raw:
    main, sub = header
    return Raw(bytes([main << 4 | sub, len(body) // 4 - 1]) + body)


def asset(
    number: int, *units: Raw, metadata: bytes | None = None, simprints: dict[str, list[Simprint]] | None = None, realm: int = 0
) -> Asset:
    packed = (
        {name: Simprints(len(given[0].body) if given else 0, pack_simprints(given)) for name, given in simprints.items()}
        if simprints is not None
        else None
    )
    return Asset(realm, key(number), None, list(units) or None, metadata, packed)


def simprints_of(added: Asset, name: str = "X") -> list[Simprint]:
    """What was given to `asset`."""
    packed = (added.simprints or {})[name]
    return unpack_simprints(packed.packed, packed.width)


def random_units(rng: random.Random, length: int = 32) -> list[Raw]:
    return [unit(header, rng.randbytes(length)) for header in (META, CONTENT, DATA, INSTANCE)]


def search(engine: Engine, *units: Raw, limit: int = 10, index: str = "a") -> SearchAnswer:
    return engine.search(index, Query(list(units), {}), limit)


def flipped(body: bytes, bits: int) -> bytes:
    """The body with its first `bits` bits turned."""
    mask = ((1 << bits) - 1) << (len(body) * 8 - bits)
    return (int.from_bytes(body, "big") ^ mask).to_bytes(len(body), "big")
