"""Which graphs may be searched, which are wanted, and the search through them."""

from __future__ import annotations

from pathlib import Path

from service.engine.columns import Segment
from service.engine.graphs import GraphFailed, GraphFile, Views, settings_for
from service.engine.requests import Body


class Tiers:
    """Lives as long as the engine; any thread may ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._views = Views()
        self.asked_bits: set[int] = set()

    def nearest(self, segment: Segment, compared: Body, radius: int) -> list[int] | None:
        """First rows of the nearest runs of a segment within the radius. None while it has no graph for this length: then it is scanned."""
        bits = len(compared) * 8
        graph = next((graph for graph in segment.graphs if graph.bits == bits), None)
        if graph is None:
            self.asked_bits.add(bits)
            return None
        try:
            found = self._views.search(self._directory / graph.name, bits, compared, settings_for(bits))
        except GraphFailed:  # its file went away meanwhile
            return None
        return [row for row, distance in found if distance <= radius]

    def forget(self, graphs: tuple[GraphFile, ...]) -> None:
        """These graphs are not searched any more."""
        self._views.forget([graph.name for graph in graphs])
