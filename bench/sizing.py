"""What a machine needs for so many assets: memory, disk, bucket, and how fast it is. A markdown table. See README.md here.

python -m bench.sizing                                   # 10 thousand, 100 thousand and 1 million assets
python -m bench.sizing --sizes 10000,100000 --seconds 5
python -m bench.sizing --bucket s3://my-bucket/sizing    # with what AWS_ variables say; otherwise a directory
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import msgspec

from bench.load import Plan, Result
from bench.measure import ASSETS_PER_CLUSTER, INGEST_CONNECTIONS, SEED, WARM_UP_S, load
from bench.report import OTHERS_SHARE_MAX, Run, make_run, most_of_others
from bench.snapshot_servers import Tidepool
from bench.wire import INDEX, add_requests, search_requests, write_requests
from service import __version__
from service.engine.files import LIVE
from snapshots.addresses import open_bucket
from tests.corpus import Asset, Corpus

SIZES = (10_000, 100_000, 1_000_000)
SIMPRINTS = (0, 50)
SIMPRINT_QUERY = 8
QUERIES = 500
LIMIT = 10
TIME_LIMIT_S = 6 * 3600.0
MB = 1_000_000
_MAPPED = re.compile(r"^RssFile:\s+(\d+) kB", re.MULTILINE)


class Sized(msgspec.Struct, frozen=True):
    """One row. `chunks` is None without simprints. Memory of `_served` is after an empty disk was filled and searches were answered."""

    assets: int
    simprints: int
    ingest: Result
    memory_bytes: int
    memory_served_bytes: int
    mapped_bytes: int
    disk_bytes: int
    bucket_bytes: int
    units: Result
    chunks: Result | None
    cold_start_s: float


def main(arguments: list[str] | None = None) -> None:
    given = _arguments(arguments)
    with tempfile.TemporaryDirectory(prefix="tidepool-sizing-", dir=given.directory) as name:
        rows = []
        for assets in given.sizes:
            for simprints in SIMPRINTS:
                row = measure(Path(name) / f"{assets}-{simprints}", assets, simprints, given.seconds, given.bucket)
                print(line(row), file=sys.stderr, flush=True)
                rows.append(row)
    print(table(make_run(rows, given.seconds)))


def measure(folder: Path, assets: int, simprints: int, seconds: float, bucket: str) -> Sized:
    """Everything about one size, in a folder that is removed afterwards."""
    corpus = Corpus(
        SEED,
        clusters=-(-assets // ASSETS_PER_CLUSTER),
        per_cluster=ASSETS_PER_CLUSTER,
        simprints_per_asset=simprints,
        simprints_shared=0.5,
    )
    folder.mkdir(parents=True)
    url = f"{bucket.rstrip('/')}/{secrets.token_hex(4)}" if bucket else (folder / "bucket").as_uri()
    server = Tidepool(folder / "server", {}, SNAPSHOT_URL=url, SNAPSHOT_MISSING="create", LOG_LEVEL="warning")
    try:
        server.restart()
        server.post("/indexes", {"name": INDEX})
        ingest = _load(server, write_requests(folder / "adds", add_requests(corpus)), INGEST_CONNECTIONS, TIME_LIMIT_S, cycle=False)
        memory = server.anonymous_bytes()
        server.post("/snapshots", None)
        disk, stored = _disk_bytes(server.data / LIVE), _bucket_bytes(url)
        server.lose_disk()
        cold_s = server.restart()
        units = _search(server, folder / "units", corpus.queries(SEED, QUERIES), seconds)
        chunks = None
        if simprints:
            chunks = _search(server, folder / "chunks", corpus.simprint_queries(SEED, QUERIES, SIMPRINT_QUERY), seconds)
        served, mapped = server.anonymous_bytes(), _mapped_bytes(server.process.pid)
    finally:
        server.end()
    shutil.rmtree(folder)
    return Sized(corpus.size, simprints, ingest, memory, served, mapped, disk, stored, units, chunks, cold_s)


def _search(server: Tidepool, path: Path, queries: list[Asset], seconds: float) -> Result:
    """By one client, after some that do not count."""
    requests = write_requests(path, search_requests(queries, LIMIT))
    _load(server, requests, 1, min(WARM_UP_S, seconds), cycle=True)
    return _load(server, requests, 1, seconds, cycle=True)


def _load(server: Tidepool, requests: Path, connections: int, seconds: float, *, cycle: bool) -> Result:
    return load(Plan(str(requests), server.port, server.process.pid, connections, seconds, cycle=cycle))


def _disk_bytes(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _bucket_bytes(url: str) -> int:
    return sum(entry.size for entry in open_bucket(url, dict(os.environ)).list(""))


def _mapped_bytes(process: int) -> int:
    """Pages of mapped files that are in memory; the system takes them back when it needs the room."""
    found = _MAPPED.search(Path(f"/proc/{process}/status").read_text())
    return int(found[1]) * 1024 if found else 0


TITLES = (
    "assets",
    "simprints each",
    "anonymous memory after ingest, MB",
    "the same after a cold start and searches, MB",
    "mapped pages in memory, MB",
    "disk (`live`), MB",
    "bucket, MB",
    "ingest, assets/s",
    "search by units p50 / p99, ms",
    f"search by {SIMPRINT_QUERY} simprints p50 / p99, ms",
    "cold start, s",
)


def table(run: Run[Sized]) -> str:
    """Date, machine and versions, then a row for each size."""
    share = most_of_others(_results(run.measured))
    verdict = "The machine was quiet." if share <= OTHERS_SHARE_MAX else "The machine was shared: times are upper bounds, bytes stand."
    head = (
        f"{run.date}, {run.machine}, Python {run.python}, tidepool {__version__}, {run.seconds_each:g} s for each kind of "
        f"search, one client. Other processes took at most {share:.0%} of the processors in any measurement. {verdict}"
    )
    return "\n".join([head, "", f"| {' | '.join(TITLES)} |", "|---" * len(TITLES) + "|", *map(line, run.measured)])


def _results(rows: Iterable[Sized]) -> Iterable[Result | None]:
    return (result for row in rows for result in (row.ingest, row.units, row.chunks))


def line(row: Sized) -> str:
    cells = [
        f"{row.assets:,}",
        str(row.simprints),
        *(f"{size / MB:,.0f}" for size in (row.memory_bytes, row.memory_served_bytes, row.mapped_bytes, row.disk_bytes, row.bucket_bytes)),
        f"{row.assets / row.ingest.elapsed_s:,.0f}",
        _times(row.units),
        "" if row.chunks is None else _times(row.chunks),
        f"{row.cold_start_s:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def _times(result: Result) -> str:
    return f"{result.p50_ms:.2f} / {result.p99_ms:.2f}"


def _sizes(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.sizing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=_sizes, default=list(SIZES), help="numbers of assets, separated by commas")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each kind of search")
    parser.add_argument("--bucket", default="", help="URL of the bucket; without it a directory beside the data")
    parser.add_argument("--directory", type=Path, help="where data is made; needs about three times the size of the data")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
