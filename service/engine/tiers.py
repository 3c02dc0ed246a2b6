"""Which graphs may be searched, which are wanted, and the search through them."""

from __future__ import annotations

from pathlib import Path

from service.engine.columns import Segment
from service.engine.graphs import GraphFile, Views, settings_for
from service.engine.requests import Body


class Tiers:
    """Lives as long as the engine; any thread may ask."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._views = Views()
        self.asked_bits: set[int] = set()

    def graph_for(self, segment: Segment, bits: int) -> GraphFile | None:
        """The graph over one segment at a compared length; None until it is built and checked, and then the segment is scanned."""
        for graph in segment.graphs:
            if graph.bits == bits:
                return graph
        self.asked_bits.add(bits)
        return None

    def search(self, graph: GraphFile, compared: Body) -> list[tuple[int, int]]:
        """First rows of runs and their distances."""
        return self._views.search(self._directory / graph.name, graph.bits, compared, settings_for(graph.bits))

    def forget(self, graphs: tuple[GraphFile, ...]) -> None:
        """These graphs are not searched any more."""
        self._views.forget([graph.name for graph in graphs])
