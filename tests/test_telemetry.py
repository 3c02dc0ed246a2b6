"""Metrics: every name in one place, in step with what the engine counts."""

from __future__ import annotations

import msgspec

from service import telemetry
from service.boot.figures import Figures, flatten
from service.engine.engine import EngineStats
from service.engine.parts import Tally
from service.machine import memory
from service.telemetry import (
    ENGINE_COUNTERS,
    ENGINE_GAUGES,
    SNAPSHOT_COUNTERS,
    SNAPSHOT_GAUGES,
    SNAPSHOT_LABELLED_COUNTERS,
    SNAPSHOT_LABELLED_GAUGES,
    STATES,
    Metrics,
)


def names(kind: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def test_every_figure_of_the_engine_is_a_metric() -> None:
    """A figure that the engine adds must be told here, and none is told that it has not."""
    assert names(EngineStats) - {"done"} == ENGINE_GAUGES.keys()
    assert names(Tally) == ENGINE_COUNTERS.keys()


def test_every_figure_of_snapshots_is_a_metric() -> None:
    """Each stands in one table, by its kind."""
    tables = (SNAPSHOT_GAUGES, SNAPSHOT_COUNTERS, SNAPSHOT_LABELLED_GAUGES, SNAPSHOT_LABELLED_COUNTERS)
    assert sorted(names(Figures)) == sorted(name for table in tables for name in table)


def test_figures_of_snapshots_are_shown_by_their_kind() -> None:
    """Counters end in `_total`, labels have their name, and what is not known is left out."""
    found = Figures(snapshot_lag_rows=3, snapshot_log_rows=5, snapshot_errors={"ship": 2}, snapshot_duration_seconds={"copy": 0.5})
    metrics = Metrics()
    metrics.watch(dict, lambda: "ready", dict, lambda: msgspec.structs.asdict(found))
    shown = {line for line in metrics.text().decode().splitlines() if line.startswith("tidepool_snapshot")}
    assert shown == {
        "tidepool_snapshot_lag_rows 3.0",
        "tidepool_snapshot_log_rows_total 5.0",
        'tidepool_snapshot_errors_total{op="ship"} 2.0',
        'tidepool_snapshot_duration_seconds{phase="copy"} 0.5',
    }


def test_no_label_is_one_that_prometheus_sets() -> None:
    """It would be renamed to `exported_job` or `exported_instance` when it is scraped."""
    metrics = Metrics()
    labelled = {name: {"x": 1.0} for name in (*SNAPSHOT_LABELLED_GAUGES, *SNAPSHOT_LABELLED_COUNTERS)}
    metrics.watch(lambda: {"read": 0}, lambda: "ready", dict, lambda: labelled)
    metrics.watch_background(lambda: {"seal": 1}, lambda: {"disk": False})
    metrics.count_request("GET", "/", 200, 0.1)
    metrics.count_event("x")
    metrics.count_bucket("get", "ok", 0.1)
    labels = {label for family in metrics.registry.collect() for sample in family.samples for label in sample.labels}
    assert labels & {"job", "instance"} == set()
    assert {"work", "reason", "route", "event", "op", "phase"} <= labels


def test_one_state_is_true() -> None:
    """All are named, so that a query needs no knowledge of the others."""
    metrics = Metrics()
    metrics.watch(dict, lambda: "draining", dict, dict)
    shown = [line for line in metrics.text().decode().splitlines() if line.startswith("tidepool_state{")]
    assert shown == [f'tidepool_state{{state="{name}"}} {float(name == "draining")}' for name in STATES]


def test_calls_of_the_bucket_are_a_histogram() -> None:
    """By operation and outcome."""
    metrics = Metrics()
    metrics.count_bucket("create", "taken", 0.3)
    text = metrics.text().decode()
    assert 'tidepool_bucket_seconds_bucket{le="0.5",op="create",result="taken"} 1.0' in text
    assert 'tidepool_bucket_seconds_bucket{le="0.2",op="create",result="taken"} 0.0' in text


def test_figures_of_nested_structs_stand_side_by_side() -> None:
    """Members keep their names."""

    class Inner(msgspec.Struct):
        b: int = 2

    class Outer(msgspec.Struct):
        inner: Inner
        a: int = 1

    assert flatten(Outer(Inner())) == {"a": 1, "b": 2}


def test_two_applications_count_apart() -> None:
    """There is no registry that all share."""
    first, second = Metrics(), Metrics()
    first.count_request("GET", "/", 200, 0.1)
    first.count_commit(3, 0.01)
    first.count_event("sealed")
    assert b'tidepool_requests_total{method="GET",route="/",status="200"} 1.0' in first.text()
    assert b"tidepool_commit_requests_sum 3.0" in first.text()
    assert b'tidepool_engine_events_total{event="sealed"} 1.0' in first.text()
    assert b'route="/"' not in second.text()


def test_before_the_engine_is_open_its_figures_are_left_out() -> None:
    """Nobody takes a figure that is not known for zero."""
    metrics = Metrics()
    metrics.watch(lambda: {"read": 1}, lambda: "opening", dict, dict)
    text = metrics.text().decode()
    assert "tidepool_ready 0.0" in text
    assert 'tidepool_lane_depth{lane="read"} 1.0' in text
    assert "tidepool_engine_assets" not in text


def test_names_share_a_prefix() -> None:
    """Every name of this service is found by it."""
    declared = [value for name, value in vars(telemetry).items() if name.isupper() and not name.startswith("_") and isinstance(value, str)]
    assert [name for name in declared if not name.startswith("tidepool_")] == []
    assert telemetry.PREFIX in declared


def test_memory_is_told_by_kind() -> None:
    """Own memory and pages of files are different things."""
    found = memory()
    assert found.keys() == {"anonymous", "file", "swap"}
    assert found["anonymous"] > 1 << 20
