"""The graph tier's background: checking graphs that were found at open, building those that are missing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator

import msgspec

from service.engine.columns import Column, ColumnName, Segment, Token
from service.engine.errors import EngineError
from service.engine.graphs import Builder, GraphFile, check, settings_for
from service.engine.layout import column_key, segment_rows
from service.engine.parts import Parts
from service.engine.segments import graph_name, segment_path

RETRY_S = 600.0
"""A graph that could not be built waits that long: the others come first."""


class GraphTier:
    """Lives as long as the engine; one thread calls `step`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._builder = Builder()
        self._unchecked: dict[Token, tuple[ColumnName, tuple[GraphFile, ...]]] = {}
        self._not_before: dict[tuple[Token, int], float] = {}

    def check_later(self, name: ColumnName, token: Token, graphs: tuple[GraphFile, ...]) -> None:
        """Graphs found at open: their segments are scanned until the digests were compared."""
        if graphs:
            self._unchecked[token] = (name, graphs)

    def forget(self, segment: Token, graphs: tuple[GraphFile, ...]) -> None:
        """A segment that is gone."""
        self._unchecked.pop(segment, None)
        self._parts.tiers.forget(graphs)

    def stop(self) -> None:
        """Gives up the graph that is being built."""
        self._builder.stop()

    def step(self) -> bool:
        """One piece of work; False when there is none."""
        return self._parts.options.graphs and (self._check() or self._build_next())

    def waiting(self) -> int:
        """Graphs that are to be built. Any thread may ask."""
        if not self._parts.options.graphs:
            return 0
        return sum(len(self._missing_bits(name, segment)) for name, column in self._large_columns() for segment in column.segments)

    def _check(self) -> bool:
        try:
            token, (name, graphs) = self._unchecked.popitem()
        except KeyError:
            return False
        good = tuple(graph for graph in graphs if check(self._parts.directory / graph.name, graph))
        if good == graphs:
            self._show(name, token, good)
            return True
        if self._name_graphs(name, token, good):
            self._parts.tally.graphs_discarded += len(graphs) - len(good)
            self._parts.report("graph file is missing or damaged, building it again", {"segment": token.hex()})
        return True

    def _show(self, name: ColumnName, token: Token, graphs: tuple[GraphFile, ...]) -> None:
        """Searches use the graphs from now on."""
        with self._parts.writing:
            column = self._parts.columns.get(name)
            if column is not None:
                column.set_graphs(token, graphs)

    def _build_next(self) -> bool:
        if self._parts.pressure.on_disk or self._parts.pressure.on_memory:
            return False
        now = time.monotonic()
        for name, column in self._large_columns():
            for segment in column.segments:
                for bits in self._missing_bits(name, segment):
                    if self._not_before.get((segment.token, bits), 0.0) <= now:
                        self._build(name, segment, bits)
                        return True
        return False

    def _missing_bits(self, name: ColumnName, segment: Segment) -> list[int]:
        """The whole length, and the shorter ones that queries asked for, less those that are there or not checked yet."""
        if segment.token in self._unchecked:
            return []
        wanted = [name[2] * 8, *sorted(bits for column, bits in tuple(self._parts.tiers.asked) if column == name)]
        return [bits for bits in wanted if all(graph.bits != bits for graph in segment.graphs)]

    def _large_columns(self) -> Iterator[tuple[ColumnName, Column]]:
        """Columns of types with more codes than are scanned."""
        of_type: defaultdict[tuple[int, int], list[tuple[ColumnName, Column]]] = defaultdict(list)
        for name, column in self._parts.columns:
            of_type[name[:2]].append((name, column))
        for found in of_type.values():
            if sum(column.rows for _, column in found) > self._parts.options.exact_max_codes:
                yield from found

    def _build(self, name: ColumnName, segment: Segment, bits: int) -> None:
        self._parts.store.require_room(self._parts.options.disk_free_min_bytes)
        target = self._parts.directory / graph_name(segment.token, bits)
        try:
            graph = self._builder.build(
                segment_path(self._parts.directory, segment.token), segment.rows, name[2] // 8, bits, target, settings_for(bits)
            )
            now = self._now(name, segment)
            if now is not None and self._name_graphs(name, segment.token, (*now.graphs, graph)):
                self._parts.tally.graphs_built += 1
                return
        except EngineError:
            target.unlink(missing_ok=True)
            if self._now(name, segment) is None:  # rewritten meanwhile: its files went while they were read
                return
            self._not_before[segment.token, bits] = time.monotonic() + RETRY_S
            self._parts.tally.graphs_failed += 1
            raise
        target.unlink(missing_ok=True)

    def _now(self, name: ColumnName, segment: Segment) -> Segment | None:
        """The segment as it stands in its column, None when it is gone, or its index."""
        column = self._parts.columns.get(name)
        found = column.segments if column is not None else ()
        return next((now for now in found if now.token == segment.token), None)

    def _name_graphs(self, name: ColumnName, token: Token, graphs: tuple[GraphFile, ...]) -> bool:
        """False when the segment is gone."""
        with self._parts.writing:
            column = self._parts.columns.get(name)
            if column is None:
                return False
            with self._parts.change() as txn:
                stored = txn.get(column_key(*name) + token, db=self._parts.store.segments)
                if stored is None:
                    return False
                row = msgspec.structs.replace(segment_rows.decode(stored), graphs=graphs)
                self._parts.put_segment(txn, name, token, row)
            column.set_graphs(token, graphs)
        return True
