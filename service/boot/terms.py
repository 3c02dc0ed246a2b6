"""What the engine, retention and the start are told of the settings."""

from __future__ import annotations

import math

from service.engine.options import Options
from service.machine import processors
from service.settings import NO_BUCKET, Settings
from snapshots.retention import Policy
from snapshots.start import Allowed


def options(settings: Settings) -> Options:
    """What the engine is told of the settings."""
    return Options(
        match_threshold=settings.match_threshold_units,
        match_threshold_simprints=settings.match_threshold_simprints,
        confidence_exponent=settings.confidence_exponent,
        max_candidates=settings.max_candidates,
        max_query_simprints=settings.max_query_simprints,
        max_chunk_postings=settings.max_chunk_postings,
        segment_codes=settings.segment_codes,
        graphs=settings.graphs,
        simprints=settings.simprints,
        exact_max_codes=settings.exact_max_codes,
        disk_free_min_bytes=settings.disk_free_min_bytes,
        keep_log=settings.snapshot_url != NO_BUCKET,
        processors=math.ceil(processors()),
    )


def policy(settings: Settings) -> Policy:
    """What is kept in the bucket."""
    return Policy(*settings.snapshot_keep, settings.snapshot_window)


def permissions(settings: Settings, adopt: str) -> Allowed:
    """What the start-up table may do by itself."""
    return Allowed(
        create=settings.snapshot_url.startswith("file:") or settings.snapshot_missing == "create",
        serve_unreachable=settings.snapshot_unreachable == "serve",
        adopt=adopt,
    )
