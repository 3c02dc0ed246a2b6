"""Snapshots: how far the bucket is behind, what is uploaded, how fast an empty machine is back. See README.md here.

The store is Ceph's RADOS gateway on loopback, or moto with `--store moto`; what a directory shows better is measured on a directory.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from bench.cpu import family, others_share, stolen_share, used
from bench.schedule import amplification, replay_rate
from bench.servers import Refused
from bench.snapshot_servers import Tidepool, apart
from snapshots.addresses import open_bucket
from snapshots.fetch import FETCHES, RANGE_BYTES
from snapshots.paths import BLOBS
from tests.corpus import Corpus
from tests.stores import Store, ceph_store, moto_store

LAG_ASSETS_PER_S = 200
LAG_BATCH = 10
RESTORE_ROUNDS = 5
RESTORE_POLL_S = 0.05
"""Whoever asks more often whether it is ready takes the processors from what is measured."""
FILL_PATIENCE_S = 300.0
"""How long a write that the server refuses because the bucket is behind is sent again."""
MiB = 1 << 20


class Figure(msgspec.Struct, frozen=True):
    """One measured value, and the bar that it has to pass, where there is one."""

    name: str
    value: float
    unit: str
    bar: float | None = None
    more_is_better: bool = False

    @property
    def passed(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value >= self.bar if self.more_is_better else self.value <= self.bar


def main() -> None:
    arguments = _arguments()
    chosen: list[str] = arguments.only
    stores: dict[str, Callable[[], AbstractContextManager[Store]]] = {"ceph": ceph_store, "moto": moto_store}
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="tidepool-bench-", dir=arguments.directory) as name, stores[arguments.store]() as store:
        for part in chosen:
            folder = Path(name) / part
            folder.mkdir()
            measured = PARTS[part](folder, store, arguments)
            for figure in measured:
                print(line(figure), flush=True)
            figures += measured
            shutil.rmtree(folder)
    if arguments.out is not None:
        arguments.out.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    sys.exit(0 if all(figure.passed is not False for figure in figures) else 1)


def line(figure: Figure) -> str:
    """A row of a markdown table."""
    bar = "" if figure.bar is None else f"{'≥' if figure.more_is_better else '≤'} {figure.bar:g}: {'met' if figure.passed else 'MISSED'}"
    return f"| {figure.name} | {figure.value:.4g} {figure.unit} | {bar} |"


def lag(folder: Path, store: Store, arguments: argparse.Namespace) -> list[Figure]:
    """From the answer to a write until the bucket has it, under steady writing."""
    server = Tidepool(folder, store.environment, SNAPSHOT_URL=store.url, SNAPSHOT_MISSING="create")
    seconds = arguments.lag_seconds
    corpus = Corpus(1, clusters=LAG_ASSETS_PER_S * seconds // 20, per_cluster=20)
    answered: list[float] = []
    seen: list[tuple[float, int]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append((time.perf_counter(), server.shipped()))
            stop.wait(0.02)

    try:
        server.restart()
        server.post("/indexes", {"name": "lag"})
        watcher = threading.Thread(target=watch)
        watcher.start()
        started = time.perf_counter()
        for number, batch in enumerate(corpus.batches(LAG_BATCH)):
            time.sleep(max(0.0, started + number * LAG_BATCH / LAG_ASSETS_PER_S - time.perf_counter()))
            server.add("lag", batch)
            answered.append(time.perf_counter())
        while not seen or seen[-1][1] < len(answered) + 1:
            time.sleep(0.05)
        stop.set()
        watcher.join()
    finally:
        server.end()
    times, numbers = np.array([at for at, _ in seen]), np.array([number for _, number in seen])
    first = np.searchsorted(numbers, np.arange(len(answered)) + 2)  # request 1 made the index
    lags = np.maximum(0.0, times[first] - np.array(answered))
    return [
        Figure("lag of the bucket, p50", float(np.percentile(lags, 50)), "s", 1.0),
        Figure("lag of the bucket, p99", float(np.percentile(lags, 99)), "s", 5.0),
        Figure("lag of the bucket, most", float(lags.max()), "s"),
    ]


def uploads(folder: Path, _: Store, arguments: argparse.Namespace) -> list[Figure]:
    """Bytes uploaded for each byte of log over an hour of the schedule, without the first base."""
    ratio, checkpoints, log_bytes = amplification(folder, assets=arguments.assets)
    return [
        Figure(f"bytes uploaded for a byte of log, {arguments.assets} assets, {log_bytes / MiB:.0f} MiB of log", ratio, "", 3.0),
        Figure("checkpoints in that hour", checkpoints, ""),
    ]


def replay(folder: Path, _: Store, arguments: argparse.Namespace) -> list[Figure]:
    """The log through the engine's own write path."""
    rate, per_s = replay_rate(folder, assets=arguments.assets)
    worst = 64 * MiB / per_s
    return [
        Figure("replay", rate, "assets/s", 20_000, more_is_better=True),
        Figure("replay of the most log before a checkpoint is due, small base (64 MiB)", worst, "s"),
    ]


def restore(folder: Path, store: Store, arguments: argparse.Namespace) -> list[Figure]:
    """An empty machine and a fresh base of about `--gigabytes`: beside the store, and with the store on processors of its own."""
    theirs = family(os.getpid())[1:]
    url = store.url
    server = Tidepool(folder, store.environment, SNAPSHOT_URL=url, SNAPSHOT_MISSING="create", MAX_BODY_BYTES=256 * MiB)
    try:
        server.restart()
        server.post("/indexes", {"name": "big"})
        _fill(server, arguments.gigabytes)
        server.post("/snapshots", {})
        stopping = server.stop()
        shutil.copyfile(server.data / "live" / "data.mdb", folder / "base")
        beside = _restored(server, store, url, folder)
        figures = _restore_figures(beside, "")
        if theirs and len(os.sched_getaffinity(0)) > 1:
            with apart(theirs):
                figures += _restore_figures(_restored(server, store, url, folder), ", the store on processors of its own")
    finally:
        server.end()
    return [
        Figure("bytes of the base", beside.size / MiB, "MiB"),
        *figures,
        Figure("from an empty disk to ready", beside.ready_s, "s", beside.size / beside.slowest + 5),
        Figure("SIGTERM to exit", stopping, "s", 30),
    ]


class Restored(msgspec.Struct, frozen=True):
    """Medians of one run. `size` in bytes, rates in bytes a second."""

    size: float
    copied: float
    hashed: float
    network: float
    rate: float
    ready_s: float

    @property
    def slowest(self) -> float:
        return min(self.copied, self.hashed, self.network)


def _restored(server: Tidepool, store: Store, url: str, folder: Path) -> Restored:
    """Restores, and what it is made of, in turns. Nobody else asks the store or the server much meanwhile."""
    rounds = []
    for _ in range(RESTORE_ROUNDS):
        server.lose_disk()
        copied, hashed = _copy_rate(folder / "base", server.data / "copy"), _hash_rate(folder / "base")
        network = _download_rate(url, store)
        ready_s = server.restart(RESTORE_POLL_S)
        size = server.metric("tidepool_restore_bytes_total")
        rounds.append((size, copied, hashed, network, size / server.metric("tidepool_restore_duration_seconds"), ready_s))
    return Restored(*(median(column) for column in zip(*rounds, strict=True)))


def _restore_figures(restored: Restored, where: str) -> list[Figure]:
    return [
        Figure(f"cp and fsync{where}", restored.copied / MiB, "MiB/s"),
        Figure(f"SHA-256{where}", restored.hashed / MiB, "MiB/s"),
        Figure(f"download from the store, {FETCHES} at a time{where}", restored.network / MiB, "MiB/s"),
        Figure(f"restore, until the files are whole, checked and synced{where}", restored.rate / MiB, "MiB/s"),
        Figure(f"the same against the slowest of the three{where}", restored.rate / restored.slowest, "", 0.8, more_is_better=True),
    ]


def cold(folder: Path, store: Store, _: argparse.Namespace) -> list[Figure]:
    """A small index on an empty machine: the log alone, and with a base."""
    server = Tidepool(folder, store.environment, SNAPSHOT_URL=store.url, SNAPSHOT_MISSING="create")
    figures = []
    try:
        server.restart()
        server.post("/indexes", {"name": "small"})
        for batch in Corpus(2, clusters=500, per_cluster=20).batches(100):
            server.add("small", batch)
        server.stop()
        for name in ("from the log", "from a base"):
            times = []
            for _attempt in range(3):
                server.lose_disk()
                times.append(server.restart())
            figures.append(Figure(f"cold start with 10,000 assets, {name}", median(times), "s", 3.0))
            server.post("/snapshots", {})
    finally:
        server.end()
    return figures


def searching(folder: Path, _: Store, arguments: argparse.Namespace) -> list[Figure]:
    """Search while checkpoints are made into a directory, one after the other."""
    queries = [{"units": asset["units"]} for asset in next(_filling(arguments).batches(500))]
    timed = _beside_checkpoints(folder, arguments, lambda server, number: _search(server, queries, number))
    return [
        Figure("search p99", timed.quiet_ms, "ms"),
        Figure("search p99 during checkpoints", timed.busy_ms, "ms"),
        Figure("the same as a ratio", timed.busy_ms / timed.quiet_ms, "", 1.5),
        *_taken(timed),
    ]


def writing(folder: Path, _: Store, arguments: argparse.Namespace) -> list[Figure]:
    """Writes while checkpoints are made into a directory, one after the other."""
    batches = list(Corpus(6, clusters=500, per_cluster=20).batches(10))
    timed = _beside_checkpoints(folder, arguments, lambda server, number: server.add("busy", batches[number % len(batches)]))
    return [
        Figure("write p99", timed.quiet_ms, "ms"),
        Figure("write p99 during checkpoints", timed.busy_ms, "ms", timed.quiet_ms + 10),
        *_taken(timed),
    ]


def _filling(arguments: argparse.Namespace) -> Corpus:
    """What the index holds before anything is timed."""
    return Corpus(3, clusters=arguments.assets // 20, per_cluster=20)


class Beside(msgspec.Struct, frozen=True):
    """The 99th percentile without checkpoints and beside them, and the largest share of the processors that others had in a row."""

    quiet_ms: float
    busy_ms: float
    stolen: float
    others: float


def _beside_checkpoints(folder: Path, arguments: argparse.Namespace, work: Callable[[Tidepool, int], None]) -> Beside:
    """Times `work` without checkpoints and beside them, in turns."""
    server = Tidepool(folder, {})
    quiet: list[float] = []
    busy: list[float] = []
    stolen, others = [], []
    rows: list[tuple[list[float], Callable[[], object]]] = [(quiet, lambda: None), (busy, lambda: server.post("/snapshots", {}))] * 3
    try:
        server.restart()
        server.post("/indexes", {"name": "busy"})
        for batch in _filling(arguments).batches(1000):
            server.add("busy", batch)
        for times, beside in rows:
            before, started = used(server.process.pid), time.perf_counter()
            times += _times(partial(work, server), arguments.search_seconds, beside)
            after, elapsed_s = used(server.process.pid), time.perf_counter() - started
            stolen.append(stolen_share(before, after, elapsed_s))
            others.append(others_share(before, after, elapsed_s))
    finally:
        server.end()
    return Beside(float(np.percentile(quiet, 99)) * 1000, float(np.percentile(busy, 99)) * 1000, max(stolen), max(others))


def _taken(timed: Beside) -> list[Figure]:
    """Whether the figures above it count: others make a ratio on a machine of few processors."""
    return [
        Figure("processors taken by the hypervisor, most", timed.stolen * 100, "%"),
        Figure("processors taken by the hypervisor and other processes, most", timed.others * 100, "%"),
    ]


def idle(folder: Path, store: Store, arguments: argparse.Namespace) -> list[Figure]:
    """What the store is asked while nothing changes."""
    server = Tidepool(folder, store.environment, SNAPSHOT_URL=store.url, SNAPSHOT_MISSING="create", SNAPSHOT_INTERVAL=5)
    try:
        server.restart()
        server.post("/indexes", {"name": "idle"})
        time.sleep(3)
        before = server.operations()
        time.sleep(arguments.idle_seconds)
        after = server.operations()
    finally:
        server.end()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    writing = sum(grown.get(name, 0) for name in ("create", "replace", "put_file", "delete", "list"))
    return [
        Figure(f"requests that write or list in {arguments.idle_seconds} idle seconds", writing, "", 0),
        Figure("requests that ask", grown.get("head", 0) + grown.get("get", 0), ""),
    ]


def _fill(server: Tidepool, gigabytes: float) -> None:
    """Assets with much metadata: bytes, not work."""
    chance = random.Random(4)
    corpus = Corpus(4, clusters=max(1, int(gigabytes * 500)), per_cluster=20)
    for batch in corpus.batches(100):
        for asset in batch:
            asset["metadata"] = {"name": chance.randbytes(50_000).hex()}
        _add_patiently(server, "big", batch)


def _add_patiently(server: Tidepool, index: str, assets: list[Any]) -> None:
    """As a client does: what is refused because the bucket is behind is sent again when the answer says."""
    deadline = time.monotonic() + FILL_PATIENCE_S
    while True:
        try:
            return server.add(index, assets)
        except Refused as refused:
            if refused.retry_after_s is None or time.monotonic() + refused.retry_after_s > deadline:
                raise
            time.sleep(refused.retry_after_s)


def _copy_rate(source: Path, target: Path) -> float:
    started = time.perf_counter()
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())
    rate = source.stat().st_size / (time.perf_counter() - started)
    target.unlink()
    return rate


def _hash_rate(path: Path) -> float:
    started = time.perf_counter()
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return path.stat().st_size / (time.perf_counter() - started)


def _download_rate(url: str, store: Store) -> float:
    """Everything under blobs, as a restore asks for it, thrown away."""
    bucket = open_bucket(url, store.environment)
    ranges = [(entry.key, start) for entry in bucket.list(BLOBS) for start in range(0, entry.size, RANGE_BYTES)]
    started = time.perf_counter()
    with ThreadPoolExecutor(FETCHES) as pool:
        size = sum(pool.map(lambda part: bucket.read(part[0], part[1], RANGE_BYTES, len), ranges))
    rate = size / (time.perf_counter() - started)
    bucket.close()
    return rate


def _search(server: Tidepool, queries: list[dict[str, Any]], number: int) -> None:
    server.post("/indexes/busy/search?limit=10", queries[number % len(queries)])


def _times(work: Callable[[int], None], seconds: float, beside: Callable[[], object]) -> list[float]:
    """How long each call took, while something else is repeated beside it."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.is_set():
            beside()
            stop.wait(0.05)

    worker = threading.Thread(target=repeat)
    worker.start()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        work(len(times))
        times.append(time.perf_counter() - started)
    stop.set()
    worker.join()
    return times


PARTS: dict[str, Callable[[Path, Store, argparse.Namespace], list[Figure]]] = {
    "lag": lag,
    "uploads": uploads,
    "replay": replay,
    "restore": restore,
    "cold": cold,
    "searching": searching,
    "writing": writing,
    "idle": idle,
}


def _parts(text: str) -> list[str]:
    chosen = text.split(",")
    if unknown := [part for part in chosen if part not in PARTS]:
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return chosen


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", choices=("ceph", "moto"), default="ceph")
    parser.add_argument("--only", type=_parts, default=list(PARTS), help=f"parts, separated by commas: {', '.join(PARTS)}")
    parser.add_argument("--lag-seconds", type=int, default=120)
    parser.add_argument("--idle-seconds", type=int, default=600)
    parser.add_argument("--search-seconds", type=float, default=10.0)
    parser.add_argument("--assets", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--directory", type=Path, help="where the data stands")
    parser.add_argument("--out", type=Path, help="JSON of all figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
