"""Search over simprints, our server and iscc-search 0.3.3 on the same chunks through HTTP on loopback. See README.md here."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.chunk_truth import ChunkTruth
from bench.load import Plan, Result
from bench.measure import ASSETS_PER_CLUSTER, INGEST_CONNECTIONS, SEED, WARM_UP_S, load
from bench.report import OTHERS_SHARE_MAX, Row, Run, bar_text, header, line, make_run, most_of_others, quietness
from bench.servers import Server, Target, ours, reference
from bench.truth import Match, Quality, judge
from bench.wire import ASSETS_PER_BATCH, INDEX, add_requests, search_requests, write_requests
from tests.corpus import Asset, Corpus
from tests.system.reference import reference_python

BAR_SIZE = (20_000, 50, 128)  # assets, simprints of each, bits
BAR_MANY_MS = 250
FEW, MANY = 8, 50  # simprints in a query
QUERIES = {FEW: 1_000, MANY: 300}
JUDGED = {FEW: 200, MANY: 50}
SHARED = 0.5
FLIPS = 6
LIMIT = 10


class Queries(msgspec.Struct, frozen=True):
    judged: list[Asset]
    requests: Path


class DataSet(msgspec.Struct, frozen=True):
    """What is ingested and searched, by the length of the queries; the requests of both are in files."""

    corpus: Corpus
    adds: Path
    queries: dict[int, Queries]


class Searched(msgspec.Struct, frozen=True):
    """One pass over queries of one length. `best` judges the first match of each answer alone."""

    times: Result
    quality: Quality
    best: Quality


class ChunkFigures(msgspec.Struct, frozen=True):
    """The figures of one server. `searched` is by the length of the queries, and empty when the time limit was over before ingest."""

    name: str
    version: str
    size: tuple[int, int, int]
    ingest: Result
    ingested: int
    memory_bytes: int
    searched: dict[int, Searched] = {}
    disk_bytes: int = 0


def main() -> None:
    arguments = _arguments()
    targets = [] if arguments.only == "reference" else [ours()]
    if arguments.only != "ours":
        targets.append(reference(arguments.reference or reference_python()))
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-", dir=arguments.directory) as name:
        data = _data_set(Path(name), arguments)
        truth = ChunkTruth(data.corpus)
        run = make_run([_measure(target, data, truth, Path(name) / target.name, arguments) for target in targets], arguments.seconds)
    if arguments.out is not None:
        arguments.out.write_bytes(msgspec.json.format(msgspec.json.encode(run)))
    print(f"\n{header(run)} at most. {quietness(_others_share(run))}\n\n{_table(run)}")


def _data_set(directory: Path, arguments: argparse.Namespace) -> DataSet:
    clusters = -(-arguments.assets // ASSETS_PER_CLUSTER)
    corpus = Corpus(
        SEED,
        clusters=clusters,
        per_cluster=ASSETS_PER_CLUSTER,
        unit_bits=64,
        flips=FLIPS,
        with_units=False,
        simprints_per_asset=arguments.simprints,
        simprint_bits=arguments.bits,
        simprints_shared=SHARED,
    )

    def queries(length: int) -> Queries:
        made = corpus.simprint_queries(SEED + length, QUERIES[length], length, flips=FLIPS)
        return Queries(made[: JUDGED[length]], write_requests(directory / f"searches_{length}", search_requests(made, LIMIT)))

    _say(f"{corpus.size} assets with {arguments.simprints} simprints each are being made")
    return DataSet(corpus, write_requests(directory / "adds", add_requests(corpus)), {length: queries(length) for length in QUERIES})


def _measure(target: Target, data: DataSet, truth: ChunkTruth, directory: Path, arguments: argparse.Namespace) -> ChunkFigures:
    server = Server(target, directory)
    try:
        server.start()
        server.wait_ready()
        server.post("/indexes", {"name": INDEX})
        figures = _ingest(server, data, arguments.time_limit)
        if figures.ingested < data.corpus.size:
            return figures
        searched = {length: _search(server, queries, truth, arguments.seconds) for length, queries in data.queries.items()}
        server.stop()
        return msgspec.structs.replace(figures, searched=searched, disk_bytes=server.disk_bytes())
    finally:
        server.end()


def _ingest(server: Server, data: DataSet, time_limit_s: float) -> ChunkFigures:
    target, simprints = server.target, data.corpus.simprints
    assets, places, size = simprints.shape
    result = load(Plan(str(data.adds), server.port, server.process.pid, INGEST_CONNECTIONS, time_limit_s, cycle=False))
    ingested = min(result.requests * ASSETS_PER_BATCH, assets)
    _say(f"{target.name}: {ingested} assets in {result.elapsed_s:.1f} s, {ingested * places / result.elapsed_s:.0f} chunks a second")
    return ChunkFigures(target.name, target.version, (assets, places, size * 8), result, ingested, server.anonymous_bytes())


def _search(server: Server, queries: Queries, truth: ChunkTruth, seconds: float) -> Searched:
    """Each query once, by one client, as long as there is time; the answers to the first of them are judged."""
    requests, bodies = str(queries.requests), queries.requests.with_suffix(".answers")
    load(Plan(requests, server.port, server.process.pid, 1, WARM_UP_S, cycle=True))
    times = load(Plan(requests, server.port, server.process.pid, 1, seconds, cycle=False, bodies=str(bodies)))
    _say(f"{server.target.name}: {queries.requests.name}: p50 {times.p50_ms:.2f} ms of {times.requests} queries")
    judged = queries.judged[: times.requests]
    answers = [_matches(body) for body in msgspec.msgpack.decode(bodies.read_bytes(), type=list[bytes])[: len(judged)]]
    scores = [truth.scores(query) for query in judged]
    return Searched(times, judge(truth.rows, scores, answers, LIMIT), judge(truth.rows, scores, answers, 1))


class _Match(msgspec.Struct, frozen=True):
    iscc_id: str
    score: float


class _Answer(msgspec.Struct, frozen=True):
    chunk_matches: list[_Match]


def _matches(answer: bytes) -> list[Match]:
    return [(match.iscc_id, match.score) for match in msgspec.json.decode(answer, type=_Answer).chunk_matches]


def _ms(length: int, pick: Callable[[Result], float]) -> Callable[[ChunkFigures], float | None]:
    def figure(figures: ChunkFigures) -> float | None:
        searched = figures.searched.get(length)
        return None if searched is None else pick(searched.times)

    return figure


def _server_cpu_ms(times: Result) -> float:
    return times.server_cpu_s / times.requests * 1000


ROWS: list[Row[ChunkFigures]] = [
    Row("ingest", lambda f: f.ingested * f.size[1] / f.ingest.elapsed_s, "chunks/s", True, 10),
    Row("server CPU to ingest 1,000 chunks", lambda f: f.ingest.server_cpu_s * 1e6 / (f.ingested * f.size[1]), "ms", False),
    Row(f"query of {FEW} simprints, p50", _ms(FEW, lambda times: times.p50_ms), "ms", False, 10),
    Row(f"query of {FEW} simprints, p99", _ms(FEW, lambda times: times.p99_ms), "ms", False),
    Row(f"query of {FEW} simprints, server CPU", _ms(FEW, _server_cpu_ms), "ms", False),
    Row(f"query of {MANY} simprints, p50", _ms(MANY, lambda times: times.p50_ms), "ms", False, 10),
    Row(f"query of {MANY} simprints, p99", _ms(MANY, lambda times: times.p99_ms), "ms", False),
    Row(f"query of {MANY} simprints, server CPU", _ms(MANY, _server_cpu_ms), "ms", False),
    Row("anonymous memory after ingest", lambda f: f.memory_bytes / 1e6, "MB", False, 4),
    Row("disk after a stop", lambda f: f.disk_bytes / 1e6 or None, "MB", False),
]


def _table(run: Run[ChunkFigures]) -> str:
    """Bars are judged on a quiet machine and at the size that they are meant for; elsewhere the table shows them alone."""
    shown, our = run.measured, run.measured[0]
    judged = len(shown) > 1 and our.size == BAR_SIZE and _others_share(run) <= OTHERS_SHARE_MAX
    heads = " | ".join(f"{figures.name} {figures.version}" for figures in shown)
    assets, places, bits = our.size
    lines = [f"| {assets:,} assets, {places} simprints each, {bits} bits | {heads} | times better | bar |"]
    lines.append("|---|" + "---|" * (len(shown) + 2))
    lines += [line(row, shown, judged=judged) for row in ROWS]
    for length in QUERIES:
        lines.append(_right(shown, length, "top-1", lambda one: one.best, judged=judged))
        lines.append(_right(shown, length, f"recall@{LIMIT}", lambda one: one.quality, judged=judged))
    lines.append(f"| queries measured | {' | '.join(_counts(figures) for figures in shown)} | | |")
    if many := our.searched.get(MANY):
        met = many.times.p50_ms < BAR_MANY_MS
        lines.append(f"\nQuery of {MANY} simprints, p50 under {bar_text(f'{BAR_MANY_MS} ms', met=met, judged=judged)}")
    return "\n".join(lines)


def _right(shown: list[ChunkFigures], length: int, what: str, pick: Callable[[Searched], Quality], *, judged: bool) -> str:
    qualities = [pick(figures.searched[length]) if length in figures.searched else None for figures in shown]
    bar = "" if qualities[0] is None else bar_text("1.0", met=qualities[0].recall == 1, judged=judged)
    return f"| query of {length} simprints, {what} | {' | '.join(_share(quality) for quality in qualities)} | | {bar} |"


def _share(quality: Quality | None) -> str:
    if quality is None:
        return "not measured"
    return f"{quality.recall:.4f}, {quality.wrong_scores:.1%} of the scores wrong ({quality.queries} queries)"


def _counts(figures: ChunkFigures) -> str:
    return ", ".join(f"{searched.times.requests} of {length} simprints" for length, searched in figures.searched.items()) or "none"


def _others_share(run: Run[ChunkFigures]) -> float:
    return most_of_others(result for f in run.measured for result in (f.ingest, *(searched.times for searched in f.searched.values())))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.simprints", description=__doc__)
    parser.add_argument("--assets", type=int, default=BAR_SIZE[0])
    parser.add_argument("--simprints", type=int, default=BAR_SIZE[1], help=f"of each asset; at least {MANY}")
    parser.add_argument("--bits", type=int, default=BAR_SIZE[2], choices=(64, 128, 192, 256))
    parser.add_argument(
        "--reference", type=Path, help="python of a virtual environment with iscc-search; made in a cache directory if left out"
    )
    parser.add_argument("--only", choices=("ours", "reference"), help="measure one server alone")
    parser.add_argument("--seconds", type=float, default=60.0, help="longest time for each row of searches")
    parser.add_argument(
        "--time-limit", type=float, default=4 * 3600.0, help="seconds for ingest; what is not in by then leaves no searches to compare"
    )
    parser.add_argument("--out", type=Path, help="file for the figures as JSON")
    parser.add_argument("--directory", type=Path, help="where data goes meanwhile; the default is the temporary directory of the system")
    arguments = parser.parse_args()
    if arguments.simprints < MANY:
        parser.error(f"--simprints: expected at least {MANY}, the simprints of the longer query")
    return arguments


if __name__ == "__main__":
    main()
