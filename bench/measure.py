"""Everything that is measured about one server on one data set, in a fixed order.

Ingest, memory, searches, stop, disk, start again; then one percent more assets and SIGKILL right after the last answer,
so that the time to get ready is that of a full data set whose last writes are seconds old.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.load import Plan, Result
from bench.servers import Server, Target
from bench.truth import Match, Quality, Truth, judge
from bench.wire import ASSETS_PER_BATCH, EMPTY_INDEX, INDEX, add_requests, request, search_requests, write_requests
from tests.corpus import Asset, Corpus

INGEST_CONNECTIONS = 4
WARM_UP_S = 2.0
QUERIES = 1_000
JUDGED_QUERIES = 300
ASSETS_PER_CLUSTER = 20
CHECKED_ASSETS = 150
RECOVERY_BUDGET_S = 30.0
SEED = 20_261_120

Say = Callable[[str], None]


class DataSet(msgspec.Struct, frozen=True):
    """`corpus` is ingested and searched, `late` is added just before the kill. The paths are files of ready-made requests."""

    bits: int
    corpus: Corpus
    late: Corpus
    judged_queries: list[Asset]
    adds: Path
    late_adds: Path
    searches: Path
    searches_100: Path
    judged: Path
    judged_100: Path
    noop: Path
    empty_searches: Path


class Crash(msgspec.Struct, frozen=True):
    """Times count from SIGKILL. `searchable_s` is None when something was still missing at the end of the budget."""

    ready_s: float
    searchable_s: float | None
    checked: int
    missing_at_ready: int
    missing_at_end: int


class Measured(msgspec.Struct, frozen=True):
    """The figures of one server. Bytes, seconds, milliseconds and requests per second as the names say."""

    name: str
    version: str
    assets: int
    bits: int
    ingest: Result
    ingested: int
    memory_bytes: int
    noop: Result | None = None
    empty_search: Result | None = None
    search: Result | None = None
    search_100: Result | None = None
    at_8: Result | None = None
    at_32: Result | None = None
    quality: Quality | None = None
    quality_100: Quality | None = None
    stop_s: float = 0.0
    disk_bytes: int = 0
    start_s: float = 0.0
    memory_restarted_bytes: int = 0
    crash: Crash | None = None


def make_data_set(directory: Path, count: int, bits: int) -> DataSet:
    def corpus(seed: int, size: int, first_id: int) -> Corpus:
        clusters = -(-size // ASSETS_PER_CLUSTER)
        return Corpus(seed, clusters=clusters, per_cluster=ASSETS_PER_CLUSTER, unit_bits=bits, first_id=first_id, with_codes=True)

    main = corpus(SEED, count, 0)
    late = corpus(SEED + 1, max(ASSETS_PER_BATCH, count // 100), main.size)
    queries = main.queries(SEED + 2, QUERIES)
    judged = queries[:JUDGED_QUERIES]
    return DataSet(
        bits,
        main,
        late,
        judged,
        write_requests(directory / "adds", add_requests(main)),
        write_requests(directory / "late_adds", add_requests(late)),
        write_requests(directory / "searches", search_requests(queries, 10)),
        write_requests(directory / "searches_100", search_requests(queries, 100)),
        write_requests(directory / "judged", search_requests(judged, 10)),
        write_requests(directory / "judged_100", search_requests(judged, 100)),
        write_requests(directory / "noop", [request("GET", "/healthz")]),
        write_requests(directory / "empty_searches", search_requests(queries, 10, EMPTY_INDEX)),
    )


def measure(target: Target, data: DataSet, directory: Path, seconds: float, time_limit_s: float, say: Say) -> Measured:
    """With the time limit over before all is ingested, only ingest and memory are in the result: searches compare at equal size alone."""
    server = Server(target, directory)
    try:
        server.start()
        server.wait_ready()
        server.post("/indexes", {"name": INDEX})
        server.post("/indexes", {"name": EMPTY_INDEX})
        measured = _ingest(server, data, time_limit_s, say)
        if measured.ingested < data.corpus.size:
            return measured
        return _restarts(server, data, _searches(server, data, measured, seconds, say), say)
    finally:
        server.end()


def _ingest(server: Server, data: DataSet, time_limit_s: float, say: Say) -> Measured:
    result = load(Plan(str(data.adds), server.port, server.process.pid, INGEST_CONNECTIONS, time_limit_s, cycle=False))
    ingested = min(result.requests * ASSETS_PER_BATCH, data.corpus.size)
    say(f"{server.target.name}: {ingested} assets in {result.elapsed_s:.1f} s, {ingested / result.elapsed_s:.0f} a second")
    return Measured(
        server.target.name,
        server.target.version,
        data.corpus.size,
        data.bits,
        result,
        ingested,
        server.anonymous_bytes(),
    )


def _searches(server: Server, data: DataSet, measured: Measured, seconds: float, say: Say) -> Measured:
    def timed(file: Path, connections: int) -> Result:
        load(Plan(str(file), server.port, server.process.pid, connections, WARM_UP_S, cycle=True))
        result = load(Plan(str(file), server.port, server.process.pid, connections, seconds, cycle=True))
        rate = result.requests / result.elapsed_s
        say(f"{server.target.name}: {file.name} with {connections} clients: p50 {result.p50_ms:.2f} ms, {rate:.0f} a second")
        return result

    return msgspec.structs.replace(
        measured,
        noop=timed(data.noop, 1),
        empty_search=timed(data.empty_searches, 1),
        search=timed(data.searches, 1),
        search_100=timed(data.searches_100, 1),
        at_8=timed(data.searches, 8),
        at_32=timed(data.searches, 32),
        quality=_quality(server, data, data.judged),
        quality_100=_quality(server, data, data.judged_100),
    )


def _quality(server: Server, data: DataSet, searches: Path) -> Quality:
    """Of the first ten results, whatever the limit of the searches."""
    bodies = searches.with_suffix(".answers")
    load(Plan(str(searches), server.port, server.process.pid, INGEST_CONNECTIONS, RECOVERY_BUDGET_S * 10, cycle=False, bodies=str(bodies)))
    answers = [_matches(answer) for answer in msgspec.msgpack.decode(bodies.read_bytes(), type=list[bytes])]
    truth = Truth(data.corpus)
    return judge(truth.rows, map(truth.scores, data.judged_queries), answers, 10)


def _restarts(server: Server, data: DataSet, measured: Measured, say: Say) -> Measured:
    stop_s = server.stop()
    disk_bytes = server.disk_bytes()
    started = time.perf_counter()
    server.start()
    server.wait_ready()
    start_s = time.perf_counter() - started
    load(Plan(str(data.searches), server.port, server.process.pid, 1, WARM_UP_S, cycle=True))
    memory = server.anonymous_bytes()
    crash = _crash(server, data)
    say(f"{server.target.name}: stopped in {stop_s:.2f} s, started in {start_s:.2f} s, after SIGKILL {crash}")
    return msgspec.structs.replace(
        measured, stop_s=stop_s, disk_bytes=disk_bytes, start_s=start_s, memory_restarted_bytes=memory, crash=crash
    )


def _crash(server: Server, data: DataSet) -> Crash:
    samples = _samples(data.late) | _samples(data.corpus)  # made before, so that nothing stands between the last answer and the kill
    load(Plan(str(data.late_adds), server.port, server.process.pid, INGEST_CONNECTIONS, RECOVERY_BUDGET_S * 10, cycle=False))
    server.kill()
    killed = time.perf_counter()
    server.start()
    server.wait_ready()
    ready_s = time.perf_counter() - killed
    begun, missing = ready_s, _missing(server, samples)
    missing_at_ready = len(missing)
    while missing and time.perf_counter() - killed < RECOVERY_BUDGET_S:
        begun = time.perf_counter() - killed
        missing = _missing(server, missing)
    return Crash(ready_s, None if missing else begun, len(samples), missing_at_ready, len(missing))


def _samples(corpus: Corpus) -> dict[str, Asset]:
    """ISCC-ID and query of assets spread evenly. Without INSTANCE: the other units are what a derived index holds."""
    step = max(1, corpus.size // CHECKED_ASSETS)
    assets = [corpus.assets(row, row + 1)[0] for row in range(0, corpus.size, step)]
    return {asset["iscc_id"]: {"units": asset["units"][:-1]} for asset in assets}


def _missing(server: Server, samples: dict[str, Asset]) -> dict[str, Asset]:
    path = f"/indexes/{INDEX}/search?limit=100"
    return {iscc_id: query for iscc_id, query in samples.items() if iscc_id not in dict(_matches(server.post(path, query)))}


class _Match(msgspec.Struct, frozen=True):
    iscc_id: str
    score: float


class _Answer(msgspec.Struct, frozen=True):
    global_matches: list[_Match]


def _matches(answer: bytes) -> list[Match]:
    return [(match.iscc_id, match.score) for match in msgspec.json.decode(answer, type=_Answer).global_matches]


def load(plan: Plan) -> Result:
    """Runs the load generator; an answer that is not 2xx ends the benchmark with its text."""
    file = Path(plan.requests).with_suffix(".plan")
    file.write_bytes(msgspec.json.encode(plan))
    done = subprocess.run(
        [sys.executable, "-m", "bench.load", str(file)],
        stdin=subprocess.DEVNULL,  # an event loop must not get its number
        capture_output=True,
        cwd=Path(__file__).parents[1],
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"load generator failed plan={plan} error={done.stderr[-2000:]}")
    return msgspec.json.decode(done.stdout, type=Result)
