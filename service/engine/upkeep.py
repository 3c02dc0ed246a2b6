"""What happens in the background: sealing the tail, rewriting segments with dead rows, freeing deleted indexes, building graphs.

One thread. Each step ends in one LMDB transaction and one change of a column, both under the engine's writing lock; a search waits
for neither.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from service.engine.columns import Column, ColumnName, Columns, Segment, Token, sort_distinct
from service.engine.errors import EngineError, Fatal
from service.engine.graphs import Builder, GraphFile, check, settings_for
from service.engine.options import Options
from service.engine.segments import graph_name, live_rows, segment_path, split, write_segment
from service.engine.store import SegmentRow, Store, Transaction, column_key, encode, prefixed, segment_rows, sequence_of, u64
from service.engine.tiers import Tiers

INTERVAL_S = 1.0
RETRY_S = 10.0
PURGE_KEYS = 2_000
REWRITE_SEGMENTS = 64
KEPT_SHARE = 0.9
PURGED_TABLES = ("assets", "postings", "simprints", "tail", "types")

Report = Callable[[str, dict[str, object]], None]


class Tally(msgspec.Struct):
    """What the engine has done since it was opened."""

    commits: int = 0
    requests: int = 0
    refused: int = 0
    segments_sealed: int = 0
    segments_rewritten: int = 0
    segments_rebuilt: int = 0
    graphs_built: int = 0
    graphs_failed: int = 0
    graphs_discarded: int = 0
    keys_purged: int = 0
    background_failures: int = 0


class Upkeep:
    """Lives as long as the engine. `step` does one piece of work; the thread calls it until there is none."""

    def __init__(
        self,
        directory: Path,
        store: Store,
        columns: Columns,
        tiers: Tiers,
        options: Options,
        writing: threading.Lock,
        tally: Tally,
        report: Report,
    ) -> None:
        self._directory = directory
        self._store = store
        self._columns = columns
        self._tiers = tiers
        self._options = options
        self._writing = writing
        self._tally = tally
        self._report = report
        self._builder = Builder()
        self._unchecked: dict[Token, tuple[ColumnName, tuple[GraphFile, ...]]] = {}
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.fatal: Fatal | None = None

    def check_later(self, name: ColumnName, token: Token, graphs: tuple[GraphFile, ...]) -> None:
        """Graphs found at open: their segments are scanned until the digests were compared."""
        if graphs:
            self._unchecked[token] = (name, graphs)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the running step has ended. A graph build is given up."""
        self._stopping.set()
        self._wake.set()
        self._builder.stop()
        if self._thread is not None:
            self._thread.join()

    def wake(self) -> None:
        """There may be work."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            try:
                while not self._stopping.is_set() and self.step():
                    pass
            except Fatal as error:
                self.fatal = error
                self._report("fatal", {"error": str(error)})
                return
            except EngineError as error:
                if self._stopping.is_set():
                    return
                self._tally.background_failures += 1
                self._report("background work failed, trying again", {"error": str(error), "retry_s": RETRY_S})
                self._stopping.wait(RETRY_S)

    def step(self) -> bool:
        """One piece of work; False when there is none."""
        return self._purge() or self._seal() or self._rewrite() or self._check_graphs() or self._build_graph()

    def _change(self) -> AbstractContextManager[Transaction]:
        """A transaction; held under the writing lock, with the change of the column behind it."""
        return self._store.write(self._options.disk_free_min_bytes)

    def _seal(self) -> bool:
        for name, column in self._columns:
            blocks = column.full_blocks(self._options.segment_codes)
            if blocks:
                segment, row = write_segment(self._directory, sort_distinct([block.words[:, : block.count] for block in blocks]))
                with self._writing:
                    if not self._still_there(name, [segment]):
                        return True
                    with self._change() as txn:
                        self._put_segment(txn, name, segment.token, row)
                        self._clear_tail(txn, name, blocks[-1].end_row)
                    column.seal(blocks, segment)
                self._tally.segments_sealed += 1
                return True
        return False

    def _still_there(self, name: ColumnName, written: list[Segment]) -> bool:
        """False when the index was deleted while files were written for it: they go."""
        if not self._columns.dropped(name[0]):
            return True
        for segment in written:
            segment_path(self._directory, segment.token).unlink()
        return False

    def _put_segment(self, txn: Transaction, name: ColumnName, token: Token, row: SegmentRow) -> None:
        txn.put(column_key(*name) + token, encode(row), db=self._store.segments)

    def _clear_tail(self, txn: Transaction, name: ColumnName, end_row: int) -> None:
        prefix = column_key(*name)
        with txn.cursor(db=self._store.tail) as cursor:
            found = cursor.set_range(prefix)
            while found and prefix <= cursor.key() < prefix + u64(end_row):
                found = cursor.delete() and bool(cursor.key())

    def _rewrite(self) -> bool:
        for name, column in self._columns:
            if column.segments and column.dead >= self._options.dead_share * column.rows:
                column.dead = 0
                self._rewrite_column(name, column)
                return True
        return False

    def _rewrite_column(self, name: ColumnName, column: Column) -> None:
        chosen = column.segments[:REWRITE_SEGMENTS]
        with self._store.read() as txn:
            sequence = sequence_of(txn, self._store)
            live = [live_rows(txn, self._store, name[0], name[1], segment.words) for segment in chosen]
        doubled = sum(words.shape[1] for words in live) - sort_distinct(live).shape[1]
        many_doubled = doubled > (1 - KEPT_SHARE) * sum(words.shape[1] for words in live)
        worn = [at for at, words in enumerate(live) if many_doubled or words.shape[1] < KEPT_SHARE * chosen[at].rows]
        if not worn:
            return
        merged = sort_distinct([live[at] for at in worn])
        written = [write_segment(self._directory, part) for part in split(merged, self._options.segment_codes)]
        old = [chosen[at] for at in worn]
        with self._writing:
            if not self._still_there(name, [segment for segment, _ in written]):
                return
            with self._change() as txn:
                for segment in old:
                    txn.delete(column_key(*name) + segment.token, db=self._store.segments)
                for segment, row in written:
                    self._put_segment(txn, name, segment.token, row)
            column.replace([segment.token for segment in old], [segment for segment, _ in written], sequence)
        for segment in old:
            self._remove_files(segment)
        self._tally.segments_rewritten += len(old)

    def _remove_files(self, segment: Segment) -> None:
        """A mapped file may be unlinked: searches that hold it go on."""
        self._tiers.forget(segment.graphs)
        self._unchecked.pop(segment.token, None)
        for path in self._directory.glob(f"{segment.token.hex()}.*"):
            path.unlink()

    def _purge(self) -> bool:
        """Frees some keys of one deleted index."""
        with self._store.read() as txn, txn.cursor(db=self._store.meta) as cursor:
            waiting = next((key[len(b"purge") :] for key, _ in prefixed(cursor, b"purge")), None)
        if waiting is None:
            return False
        names: list[Token] = []
        with self._writing, self._store.write(0) as txn:
            room = PURGE_KEYS
            for table in PURGED_TABLES:
                room -= self._delete_some(txn, table, waiting, room)
            if room > 0:
                with txn.cursor(db=self._store.segments) as cursor:
                    keys = [key for key, _ in prefixed(cursor, waiting)]
                names = [Token(key[-8:]) for key in keys]
                for key in keys:
                    txn.delete(key, db=self._store.segments)
                txn.delete(b"purge" + waiting, db=self._store.meta)
        self._tally.keys_purged += PURGE_KEYS - max(room, 0)
        for token in names:
            for path in self._directory.glob(f"{token.hex()}.*"):
                path.unlink()
        return True

    def _delete_some(self, txn: Transaction, table: str, prefix: bytes, most: int) -> int:
        deleted = 0
        with txn.cursor(db=getattr(self._store, table)) as cursor:
            found = most > 0 and cursor.set_range(prefix)
            while found and deleted < most and cursor.key().startswith(prefix):
                found = cursor.delete(dupdata=True) and bool(cursor.key())
                deleted += 1
        return deleted

    def _check_graphs(self) -> bool:
        if not self._unchecked or not self._options.graphs:
            return False
        token, (name, graphs) = self._unchecked.popitem()
        good = tuple(graph for graph in graphs if check(self._directory / graph.name, graph))
        if good != graphs:
            self._tally.graphs_discarded += len(graphs) - len(good)
            self._report("graph file is missing or damaged, building it again", {"segment": token.hex()})
        self._name_graphs(name, token, good)
        return True

    def _build_graph(self) -> bool:
        if not self._options.graphs:
            return False
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
        for name, column in self._columns:
            of_type[name[:2]].append((name, column))
        for found in of_type.values():
            if sum(column.rows for _, column in found) > self._options.exact_max_codes:
                yield from found

    def _wanted_bits(self, length: int) -> list[int]:
        """The whole length, and the shorter ones that queries asked for."""
        return [length * 8, *sorted(bits for bits in tuple(self._tiers.asked_bits) if bits < length * 8)]

    def _build(self, name: ColumnName, column: Column, segment: Segment, bits: int) -> None:
        target = self._directory / graph_name(segment.token, bits)
        try:
            graph = self._builder.build(
                segment_path(self._directory, segment.token), segment.rows, name[2] // 8, bits, target, settings_for(bits)
            )
        except EngineError:
            self._tally.graphs_failed += 1
            raise
        now = next((found for found in column.segments if found.token == segment.token), None)
        if now is None or not self._name_graphs(name, segment.token, (*now.graphs, graph)):
            target.unlink()
        self._tally.graphs_built += 1

    def _name_graphs(self, name: ColumnName, token: Token, graphs: tuple[GraphFile, ...]) -> bool:
        """False when the segment is gone."""
        with self._writing:
            column = self._columns.get(name)
            if column is None:
                return False
            with self._change() as txn:
                stored = txn.get(column_key(*name) + token, db=self._store.segments)
                if stored is None:
                    return False
                row = msgspec.structs.replace(segment_rows.decode(stored), graphs=graphs)
                self._put_segment(txn, name, token, row)
            column.set_graphs(token, graphs)
        return True
