"""The graph tier's background: checking graphs that were found at open, building those that are missing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from service.engine.columns import Column, ColumnName, Segment, Token
from service.engine.errors import EngineError
from service.engine.graphs import Builder, GraphFile, check, settings_for
from service.engine.parts import Parts
from service.engine.segments import graph_name, segment_path
from service.engine.store import column_key, segment_rows


class GraphTier:
    """Lives as long as the engine; one thread calls `step`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._builder = Builder()
        self._unchecked: dict[Token, tuple[ColumnName, tuple[GraphFile, ...]]] = {}

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

    def _check(self) -> bool:
        if not self._unchecked:
            return False
        token, (name, graphs) = self._unchecked.popitem()
        good = tuple(graph for graph in graphs if check(self._parts.directory / graph.name, graph))
        if good != graphs:
            self._parts.tally.graphs_discarded += len(graphs) - len(good)
            self._parts.report("graph file is missing or damaged, building it again", {"segment": token.hex()})
        self._name_graphs(name, token, good)
        return True

    def _build_next(self) -> bool:
        for name, column in self._large_columns():
            for segment in column.segments:
                if segment.token in self._unchecked:
                    continue
                for bits in self._wanted_bits(name[2]):
                    if all(graph.bits != bits for graph in segment.graphs):
                        self._build(name, column, segment, bits)
                        return True
        return False

    def _large_columns(self) -> Iterator[tuple[ColumnName, Column]]:
        """Columns of types with more codes than are scanned."""
        of_type: defaultdict[tuple[int, int], list[tuple[ColumnName, Column]]] = defaultdict(list)
        for name, column in self._parts.columns:
            of_type[name[:2]].append((name, column))
        for found in of_type.values():
            if sum(column.rows for _, column in found) > self._parts.options.exact_max_codes:
                yield from found

    def _wanted_bits(self, length: int) -> list[int]:
        """The whole length, and the shorter ones that queries asked for."""
        return [length * 8, *sorted(bits for bits in tuple(self._parts.tiers.asked_bits) if bits < length * 8)]

    def _build(self, name: ColumnName, column: Column, segment: Segment, bits: int) -> None:
        target = self._parts.directory / graph_name(segment.token, bits)
        try:
            graph = self._builder.build(
                segment_path(self._parts.directory, segment.token), segment.rows, name[2] // 8, bits, target, settings_for(bits)
            )
        except EngineError:
            if _now(column, segment) is None:  # rewritten meanwhile: its files went while they were read
                return
            self._parts.tally.graphs_failed += 1
            raise
        now = _now(column, segment)
        if now is None or not self._name_graphs(name, segment.token, (*now.graphs, graph)):
            target.unlink(missing_ok=True)
            return
        self._parts.tally.graphs_built += 1

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


def _now(column: Column, segment: Segment) -> Segment | None:
    """The segment as it stands in the column, None when it is gone."""
    return next((found for found in column.segments if found.token == segment.token), None)
