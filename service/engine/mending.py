"""Mending: a sealed file that somebody found to differ from its digest is made again from the postings, while everything goes on.

At a start only files whose size, time or inode changed are hashed, so one that rotted where it lies is found by whoever reads it next.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from service.engine.columns import Column, ColumnName, Segment, Token, Words, sort_distinct
from service.engine.graphs import GraphFile, check
from service.engine.layout import column_key, segment_rows
from service.engine.parts import Parts
from service.engine.segments import is_whole, missing_rows, segment_path
from service.engine.store import sequence_of

Swap = Callable[[ColumnName, Column, set[Token], Words, int], None]
"""Puts rows in the place of segments; they lack what was dead at the sequence."""


class Mending:
    """Lives as long as the engine. `doubt` is called on any thread, `step` on the one that tidies."""

    def __init__(self, parts: Parts, swap: Swap) -> None:
        self._parts = parts
        self._swap = swap
        self._doubted: set[str] = set()

    def doubt(self, file: str) -> None:
        """The file of this name differs from its digest, or did when it was read."""
        self._doubted.add(file)

    def step(self) -> bool:
        """One file is looked at, and made again if it is damaged; False when there is none."""
        for file in tuple(self._doubted):
            self._mend(file)
            self._doubted.discard(file)
            return True
        return False

    def _mend(self, file: str) -> None:
        for name, column in self._parts.columns:
            for segment in column.segments:
                path = segment_path(self._parts.directory, segment.token)
                if path.name == file and not self._is_whole(name, segment, path):
                    self._parts.report(
                        "segment file is missing or damaged, rebuilding it from the postings", {"file": str(path), "codes": segment.rows}
                    )
                    self._rebuild(name, column, segment)
                    return
                for graph in self._named(name, segment):
                    if graph.name == file and not check(self._parts.directory / file, graph):
                        self._parts.report("graph file is missing or damaged, building it again", {"file": file})
                        self._drop(name, column, segment.token, graph)
                        return

    def _named(self, name: ColumnName, segment: Segment) -> tuple[GraphFile, ...]:
        """Also those that no search uses yet, because they were not compared with their digests since the start."""
        with self._parts.store.read() as txn:
            stored = txn.get(column_key(*name) + segment.token, db=self._parts.store.segments)
        return () if stored is None else segment_rows.decode(stored).graphs

    def _is_whole(self, name: ColumnName, segment: Segment, path: Path) -> bool:
        with self._parts.store.read() as txn:
            stored = txn.get(column_key(*name) + segment.token, db=self._parts.store.segments)
        try:
            return stored is None or is_whole(path, segment_rows.decode(stored), name[2])
        except OSError:
            return False  # what cannot be read is made again like a damaged one

    def _rebuild(self, name: ColumnName, column: Column, segment: Segment) -> None:
        """All that has a posting and stands nowhere else stood there. What is written meanwhile stands in the tail."""
        with self._parts.store.read() as txn:
            sequence = sequence_of(txn, self._parts.store)
            parts = list(missing_rows(txn, self._parts.store, name[0], name[1], column, without=segment.token))
        words = sort_distinct(parts) if parts else np.empty((name[2] // 8, 0), np.uint64)
        self._swap(name, column, {segment.token}, words, sequence)
        with self._parts.writing:
            column.dead = max(0, column.dead - (segment.rows - int(words.shape[1])))
        self._parts.tally.segments_rebuilt += 1

    def _drop(self, name: ColumnName, column: Column, token: Token, graph: GraphFile) -> None:
        """The graph is named no more: its segment is scanned until another is built."""
        with self._parts.writing:
            now = next((segment for segment in column.segments if segment.token == token), None)
            if now is None or self._parts.columns.dropped(name[0]):
                return
            with self._parts.change() as txn:
                stored = txn.get(column_key(*name) + token, db=self._parts.store.segments)
                if stored is None:
                    raise AssertionError("a segment of a column has a row")
                row = segment_rows.decode(stored)
                self._parts.put_segment(txn, name, token, msgspec.structs.replace(row, graphs=_without(graph, row.graphs)))
            column.set_graphs(token, _without(graph, now.graphs))
        self._parts.tiers.forget((graph,))
        (self._parts.directory / graph.name).unlink(missing_ok=True)
        self._parts.tally.graphs_discarded += 1


def _without(graph: GraphFile, graphs: tuple[GraphFile, ...]) -> tuple[GraphFile, ...]:
    return tuple(each for each in graphs if each != graph)
