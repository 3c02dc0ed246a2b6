"""Every metric of the process: its name, its meaning, where its value comes from.

Metrics live in a registry of their own, made with the application: importing has no effect. Values of the engine are read when somebody
asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.machine import memory, memory_limit_bytes, processors

REQUESTS = "tidepool_requests"
REQUEST_SECONDS = "tidepool_request_seconds"
IN_FLIGHT = "tidepool_requests_in_flight"
REQUESTS_LIMIT = "tidepool_requests_limit"
RATE_LIMIT_FAILURES = "tidepool_rate_limit_failures"
BACKGROUND_QUEUE = "tidepool_background_queue"
BACKGROUND_PAUSED = "tidepool_background_paused"
LANE_DEPTH = "tidepool_lane_depth"
COMMIT_REQUESTS = "tidepool_commit_requests"
COMMIT_SECONDS = "tidepool_commit_seconds"
READY = "tidepool_ready"
EVENTS = "tidepool_engine_events"
STATE = "tidepool_state"
BUCKET_SECONDS = "tidepool_bucket_seconds"
MEMORY = "tidepool_memory_bytes"
MEMORY_LIMIT = "tidepool_memory_limit_bytes"
PROCESSORS = "tidepool_processors"
ENGINE_PREFIX = "tidepool_engine_"
PREFIX = "tidepool_"

STATES = ("restoring", "opening", "catching-up", "ready", "draining", "failed")

ENGINE_GAUGES = {
    "sequence": "Number of the last committed request.",
    "indexes": "Indexes.",
    "assets": "Assets of all indexes.",
    "columns": "Columns: one for each index, type and length.",
    "tail_rows": "Codes that are not in a segment file yet.",
    "segment_rows": "Codes in segment files.",
    "graph_rows": "Codes in segments that have a graph.",
    "dead_rows": "Rows whose code no asset has any more.",
    "segments": "Segment files.",
    "graphs": "Graph files.",
    "lmdb_bytes": "Size of the LMDB file.",
}
"""Members of the engine's figures that go up and down."""
ENGINE_COUNTERS = {
    "commits": "Commits.",
    "requests": "Writes that were committed or refused.",
    "refused": "Writes that were refused.",
    "segments_sealed": "Segment files made of the tail.",
    "segments_rewritten": "Segment files replaced to drop dead rows.",
    "segments_rebuilt": "Segment files rebuilt because they were missing or damaged.",
    "graphs_built": "Graphs that were built.",
    "graphs_failed": "Graph builds that failed.",
    "graphs_discarded": "Graphs thrown away because their files were missing or damaged.",
    "keys_purged": "Keys of deleted indexes that were freed.",
    "background_failures": "Steps of background work that failed and were tried again.",
}
"""Members that only grow while the process lives."""
SNAPSHOT_GAUGES = {
    "snapshot_last_success_timestamp_seconds": (
        "When the newest checkpoint was made; of one that an earlier process made, when the last write in it was committed."
    ),
    "snapshot_lag_seconds": "Age of the oldest write that is not in the bucket.",
    "snapshot_lag_rows": "Writes that are not in the bucket.",
    "snapshot_backlog_bytes": "Bytes of writes that are not in the bucket.",
    "snapshot_base_sequence": "Number of the last write that the newest checkpoint holds.",
    "snapshot_generation": "Number of the newest manifest.",
    "snapshot_epoch": "How many processes have owned the bucket's data so far.",
    "snapshot_unsafe_store": "1 when the store does not keep what it promises and is used all the same.",
    "restore_duration_seconds": "Time of the restore at this start, until the data was in its place.",
    "snapshot_write_pause_seconds": "Slowest commit while the last checkpoint was made.",
    "verify_last_success_timestamp_seconds": "When a part of the bucket was last read and nothing was wrong with it.",
    "verify_problems": "What was wrong when a part of the bucket was last read.",
    "drill_last_success_timestamp_seconds": "When the last restore on trial ended that gave what the index gives.",
    "drill_problems": "What was wrong with the last restore on trial.",
    "remote_objects": "Blobs in the bucket, when it was last pruned.",
    "remote_bytes": "Bytes of blobs in the bucket, when it was last pruned.",
    "orphan_objects": "Blobs that no manifest named, when the bucket was last pruned.",
    "lmdb_stale_readers": "Places of readers in LMDB that ended without a word, freed since the start.",
    "disk_free_bytes": "Room on the disk of the data.",
    "unshipped_files": "Files beside the data with writes that the bucket never took, because another process owned it.",
}
"""Figures of snapshots and of the disk that go up and down. Those of the bucket are what this process knows without asking it."""
SNAPSHOT_COUNTERS = {
    "snapshot_upload_bytes": "Bytes of checkpoints that were sent.",
    "snapshot_dedup_bytes": "Bytes of checkpoints that the bucket had already.",
    "snapshot_log_objects": "Log objects that were shipped.",
    "snapshot_log_rows": "Writes that were shipped.",
    "snapshot_log_bytes": "Bytes of log objects that were shipped.",
    "snapshot_fenced": "Times that another process was found to own the bucket's data. This one then ends.",
    "restore_bytes": "Bytes of the files that were restored at this start.",
    "verify_failures": "Checks that found the bucket damaged, also by earlier processes.",
    "drill_failures": "Restores on trial that gave something else than the index, also by earlier processes.",
    "gc_deleted": "Objects that pruning deleted, also by earlier processes.",
}
"""Figures that only grow."""
SNAPSHOT_LABELLED_GAUGES = {
    "snapshot_duration_seconds": ("phase", "Time of the phases of the last checkpoint."),
    "last_failure_timestamp_seconds": ("code", "When a process on this disk last ended with an error, by its exit code."),
    "failed_starts": (
        "before",
        "Starts in a row on this disk that ended in this state, before anything was served.",
    ),
}
SNAPSHOT_LABELLED_COUNTERS = {
    "snapshot_uploads": ("result", "Checkpoints by how they ended."),
    "snapshot_errors": ("op", "What failed and is tried again: shipping the log, a checkpoint, pruning and checks."),
}
"""Figures with one label, and its name."""

_BUCKET_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_GROUP_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The metrics of one application. Lives as long as it does; any thread may count."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotation here
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(REQUESTS, "Requests that were answered.", ["method", "route", "status"], registry=self.registry)
        self._seconds = Histogram(
            REQUEST_SECONDS,
            "Time from the request line to the end of the answer.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.in_flight = Gauge(IN_FLIGHT, "Requests that are being answered.", registry=self.registry)
        self._requests_limit = Gauge(REQUESTS_LIMIT, "Requests that may be answered at the same time.", registry=self.registry)
        self._rate_limit_failures = Counter(
            RATE_LIMIT_FAILURES, "Searches that passed uncounted because the store of the rate limit was lost.", registry=self.registry
        )
        self._commit_requests = Histogram(COMMIT_REQUESTS, "Writes that shared one commit.", buckets=_GROUP_SIZES, registry=self.registry)
        self._commit_seconds = Histogram(COMMIT_SECONDS, "Time of one commit with its fsync.", buckets=_SECONDS, registry=self.registry)
        self._events = Counter(
            EVENTS, "What the engine did by itself: files rebuilt, segments sealed, graphs built.", ["event"], registry=self.registry
        )
        self._bucket_seconds = Histogram(
            BUCKET_SECONDS,
            "Time of calls of the bucket, with what was tried again.",
            ["op", "result"],
            buckets=_BUCKET_SECONDS,
            registry=self.registry,
        )
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        child = self._children.get((method, route, status))
        if child is None:
            child = self._requests.labels(method, route, status), self._seconds.labels(method, route)
            self._children[method, route, status] = child
        child[0].inc()
        child[1].observe(seconds)

    def count_commit(self, requests: int, seconds: float) -> None:
        self._commit_requests.observe(requests)
        self._commit_seconds.observe(seconds)

    def count_event(self, event: str) -> None:
        self._events.labels(event).inc()

    def count_bucket(self, operation: str, result: str, seconds: float) -> None:
        self._bucket_seconds.labels(operation, result).observe(seconds)

    def count_rate_limit_failure(self) -> None:
        self._rate_limit_failures.inc()

    def show_requests(self, in_flight: Callable[[], int], most: int) -> None:
        self.in_flight.set_function(in_flight)
        self._requests_limit.set(most)

    def watch_background(self, queue: Callable[[], Mapping[str, int]], paused: Callable[[], Mapping[str, bool]]) -> None:
        """Values that are read when somebody asks for them."""
        self.registry.register(_Background(queue, paused))

    def watch(
        self,
        lanes: Callable[[], Mapping[str, int]],
        state: Callable[[], str],
        engine: Callable[[], Mapping[str, int]],
        snapshots: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Values that are read when somebody asks for them. `state` is one of STATES. A figure that is None is left out."""
        self.registry.register(_Observed(lanes, state, engine, snapshots))

    def text(self) -> bytes:
        return generate_latest(self.registry)


class _Observed(Collector):
    def __init__(
        self,
        lanes: Callable[[], Mapping[str, int]],
        state: Callable[[], str],
        engine: Callable[[], Mapping[str, int]],
        snapshots: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._lanes = lanes
        self._state = state
        self._engine = engine
        self._snapshots = snapshots

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not ask the engine."""
        return ()

    def collect(self) -> Iterable[Metric]:
        state = self._state()
        yield GaugeMetricFamily(READY, "1 when every acknowledged asset is served.", float(state == "ready"))
        yield _labelled(STATE, "1 for the state of the process, 0 for the others.", "state", {name: name == state for name in STATES})
        yield _labelled(LANE_DEPTH, "Requests that wait or run in a lane.", "lane", self._lanes())
        yield _labelled(MEMORY, "Memory of the process by kind.", "kind", memory())
        yield GaugeMetricFamily(MEMORY_LIMIT, "Memory above which the process is killed.", memory_limit_bytes())
        yield GaugeMetricFamily(PROCESSORS, "Processors that the process may use.", processors())
        yield from _plain(ENGINE_PREFIX, self._engine(), ENGINE_GAUGES, ENGINE_COUNTERS)
        figures = {name: value for name, value in self._snapshots().items() if value is not None}
        yield from _plain(PREFIX, figures, SNAPSHOT_GAUGES, SNAPSHOT_COUNTERS)
        for name, (label, words) in SNAPSHOT_LABELLED_GAUGES.items():
            if name in figures:
                yield _labelled(PREFIX + name, words, label, figures[name])
        for name, (label, words) in SNAPSHOT_LABELLED_COUNTERS.items():
            if name in figures:
                yield _counted(PREFIX + name, words, label, figures[name])


class _Background(Collector):
    def __init__(self, queue: Callable[[], Mapping[str, int]], paused: Callable[[], Mapping[str, bool]]) -> None:
        self._queue = queue
        self._paused = paused

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: registering must not ask the engine."""
        return ()

    def collect(self) -> Iterable[Metric]:
        yield _labelled(BACKGROUND_QUEUE, "Pieces of background work that wait.", "work", self._queue())
        yield _labelled(BACKGROUND_PAUSED, "1 while background work waits because this is short.", "reason", self._paused())


def _plain(prefix: str, figures: Mapping[str, Any], gauges: Mapping[str, str], counters: Mapping[str, str]) -> Iterable[Metric]:
    for name, words in gauges.items():
        if name in figures:
            yield GaugeMetricFamily(prefix + name, words, figures[name])
    for name, words in counters.items():
        if name in figures:
            yield CounterMetricFamily(prefix + name, words, figures[name])


def _counted(name: str, words: str, label: str, values: Mapping[str, float]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, words, labels=[label])
    for value_label, value in values.items():
        family.add_metric([value_label], value)
    return family


def _labelled(name: str, words: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value_label, value in values.items():
        family.add_metric([value_label], value)
    return family
