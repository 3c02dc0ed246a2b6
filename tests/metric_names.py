"""Every sample name that Prometheus can see of the service."""

from __future__ import annotations

from prometheus_client import Metric

from service import telemetry
from service.telemetry import STATES, Metrics

SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def metric_names() -> set[str]:
    """From the registry of an application, with every figure that there can be."""
    metrics = Metrics()
    figures = {name: 0.0 for tables in (telemetry.SNAPSHOT_GAUGES, telemetry.SNAPSHOT_COUNTERS) for name in tables}
    labelled = {
        name: {"x": 0.0} for tables in (telemetry.SNAPSHOT_LABELLED_GAUGES, telemetry.SNAPSHOT_LABELLED_COUNTERS) for name in tables
    }
    engine = {name: 0 for tables in (telemetry.ENGINE_GAUGES, telemetry.ENGINE_COUNTERS) for name in tables}
    metrics.watch(lambda: {"read": 0}, lambda: STATES[0], lambda: engine, lambda: {**figures, **labelled})
    return {name for family in metrics.registry.collect() for name in _samples(family)}


def _samples(family: Metric) -> set[str]:
    """Also the name of the family: that is how people write of a histogram."""
    return {family.name, *(family.name + suffix for suffix in SUFFIXES.get(family.type, ("",)))}
