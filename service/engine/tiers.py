"""Which graphs may be searched, which are wanted, and the search through them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from service.engine.columns import ColumnName, Segment
from service.engine.graphs import GraphFailed, GraphFile, Views, settings_for
from service.engine.requests import Body


class Neighbours(NamedTuple):
    """What a graph found: first rows of runs, and whether there may be more within the radius than it was asked for."""

    rows: list[int]
    full: bool


class Tiers:
    """Lives as long as the engine; any thread may ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._views = Views()
        self.asked: set[tuple[ColumnName, int]] = set()
        """Compared lengths, shorter than the column's, that queries asked for."""

    def nearest(self, name: ColumnName, segment: Segment, compared: Body, radius: int) -> Neighbours | None:
        """First rows of the nearest runs of a segment within the radius. None while it has no graph for this length: then it is scanned."""
        bits = len(compared) * 8
        graph = next((graph for graph in segment.graphs if graph.bits == bits), None)
        if graph is None:
            if bits < name[2] * 8:
                self.asked.add((name, bits))
            return None
        settings = settings_for(bits)
        try:
            found = self._views.search(self._directory / graph.name, bits, compared, settings)
        except GraphFailed:  # its file went away meanwhile
            return None
        rows = [row for row, distance in found if distance <= radius]
        return Neighbours(rows, len(rows) == settings.neighbours)

    def forget(self, graphs: tuple[GraphFile, ...]) -> None:
        """These graphs are not searched any more."""
        self._views.forget([graph.name for graph in graphs])
