"""What an engine can be told. Every value has the default that the service runs with."""

from __future__ import annotations

import msgspec

from service.engine.store import MAP_BYTES


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and thresholds of one engine."""

    match_threshold: float = 0.75
    """Least similarity of a unit that counts as a match."""
    match_threshold_simprints: float = 0.75
    """Least similarity of a simprint that counts as a match."""
    confidence_exponent: int = 4
    max_candidates: int = 100_000
    """Most assets that one search gathers before it scores."""
    max_query_simprints: int = 1_000
    """Simprints of an asset that a search by its ISCC-ID asks for."""
    max_chunk_postings: int = 1_000_000
    """Most postings that one search over simprints reads."""
    segment_codes: int = 65_536
    """Codes of the tail that are sealed into one segment; a segment holds up to half as many more."""
    exact_max_codes: int = 100_000_000
    """A type with more codes than this is searched through graphs."""
    graphs: bool = True
    simprints: bool = True
    """Whether simprints are searched."""
    processors: int = 1
    """Of them, so many share one search over simprints."""
    dead_share: float = 0.25
    """Share of rows without postings from which a column's segments are rewritten."""
    keep_log: bool = False
    """Rows of the log stay until they are released. Otherwise those of earlier groups are dropped."""
    disk_free_min_bytes: int = 256 << 20
    """Room that writes leave free on the disk."""
    map_bytes: int = MAP_BYTES
    """Largest size of the LMDB file. Only address space is taken for it."""
