"""What DESIGN.md promises of the graph tier: 0.99 of the best ten matches, whatever the data look like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from service.engine.graphs import settings_for
from tests.engine.graph_recall import Workload, clustered, crowded, planted, recall, seal, with_copies

Make = Callable[[int, int, int], Workload]
LEAST = 0.99


def found_share(directory: Path, workload: Workload, segment_rows: int) -> float:
    settings = settings_for(workload.codes.shape[1] * 64)
    return recall(seal(directory, workload.codes, segment_rows, settings), workload.queries, settings)


@pytest.mark.parametrize("bits", [64, 128, 256])
@pytest.mark.parametrize("make", [planted, clustered, crowded])
def test_recall(tmp_path: Path, make: Make, bits: int) -> None:
    """Graphs of a small column find the best ten, beside a body that 20,000 assets share."""
    assert found_share(tmp_path, with_copies(make(bits, 50_000, 500)), 27_500) >= LEAST


@pytest.mark.soak
@pytest.mark.parametrize("bits", [64, 256])
@pytest.mark.parametrize("make", [planted, clustered, crowded])
def test_recall_of_a_million_codes(tmp_path: Path, make: Make, bits: int) -> None:
    """The same for a million codes in segments of 100,000, which is what the settings were chosen for."""
    assert found_share(tmp_path, with_copies(make(bits, 1_000_000, 1_000)), 100_000) >= LEAST
