"""Keeping the exact tier in order: sealing the tail, rewriting segments with dead rows, freeing deleted indexes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.engine.columns import Block, Column, ColumnName, Segment, Token, Words, sort_distinct
from service.engine.errors import NoSpace
from service.engine.graph_tier import GraphTier
from service.engine.graphs import GraphFile
from service.engine.layout import SegmentRow, column_key, parse_tail, segment_rows, tail_values, u64
from service.engine.mending import Mending
from service.engine.parts import Parts
from service.engine.segments import live_rows, segment_path, split, write_segment
from service.engine.store import Transaction, prefixed, sequence_of

PURGE_KEYS = 2_000
REWRITE_SEGMENTS = 8
"""Segments that are in memory together while they are rewritten."""
KEPT_SHARE = 0.9
PURGED_TABLES = ("assets", "postings", "simprints", "tail", "types")


class _IndexGone(Exception):
    """The index was deleted while files were written for it."""


class Tidying:
    """Lives as long as the engine; one thread calls `step`."""

    def __init__(self, parts: Parts, graphs: GraphTier) -> None:
        self._parts = parts
        self._graphs = graphs
        self.mending = Mending(parts, self._swap)

    def step(self) -> bool:
        """One piece of work; False when there is none."""
        done = False
        lack: NoSpace | None = None
        for work in (
            self._purge,
            self._trim_log,
            self.mending.step,
            self._seal,
            self._rewrite,
        ):  # each gets its turn: freeing most of all when the others lack room
            try:
                done = work() or done
            except NoSpace as error:
                lack = error
        if lack is not None and not done:
            raise lack
        return done

    def _trim_log(self) -> bool:
        """Log rows that were released while nothing was written."""
        journal = self._parts.journal
        if not journal.has_waste:
            return False
        with self._parts.writing:
            with self._parts.store.write(0) as txn:
                oldest = journal.trim(txn)
            journal.trimmed(oldest)
        return True

    def _seal(self) -> bool:
        if self._parts.pressure.on_disk:
            return False
        for name, column in self._parts.columns:
            blocks = column.full_blocks(self._parts.options.segment_codes)
            if blocks:
                self._seal_blocks(name, column, blocks)
                return True
        return False

    def _seal_blocks(self, name: ColumnName, column: Column, blocks: tuple[Block, ...]) -> None:
        with self._written(sort_distinct([block.words[:, : block.count] for block in blocks])) as ((segment, row),), self._parts.writing:
            self._require_index(name)
            with self._parts.change() as txn:
                self._parts.put_segment(txn, name, segment.token, row)
                self._clear_tail(txn, name, blocks[-1].end_row)
            column.seal(blocks, segment)
            self._parts.tally.segments_sealed += 1

    @contextmanager
    def _written(self, words: Words, rows_max: int | None = None) -> Iterator[list[tuple[Segment, SegmentRow]]]:
        """New files, for a block that names them in LMDB; they go when it raises, and quietly when the index was deleted meanwhile."""
        self._parts.store.require_room(self._parts.options.disk_free_min_bytes)
        files: list[tuple[Segment, SegmentRow]] = []
        try:
            for part in split(words, rows_max or words.shape[1]):
                files.append(write_segment(self._parts.directory, part))  # noqa: PERF401 - what was written before an error is removed
            yield files
        except BaseException as error:
            for segment, _ in files:
                segment_path(self._parts.directory, segment.token).unlink(missing_ok=True)
            if not isinstance(error, _IndexGone):
                raise

    def _require_index(self, name: ColumnName) -> None:
        if self._parts.columns.dropped(name[0]):
            raise _IndexGone

    def _clear_tail(self, txn: Transaction, name: ColumnName, end_row: int) -> None:
        prefix = column_key(*name)
        end = prefix + u64(end_row)
        with txn.cursor(db=self._parts.store.tail) as cursor:
            found = cursor.set_range(prefix)
            while found and prefix <= cursor.key() < end:
                first, bodies = parse_tail(*cursor.item())
                found = cursor.delete() and bool(cursor.key())
                if first + len(bodies) > end_row:
                    cursor.putmulti(tail_values(prefix, end_row, bodies[end_row - first :]))
                    return

    def _rewrite(self) -> bool:
        """One window of segments of one column with many dead rows."""
        if self._parts.pressure.on_disk or self._parts.pressure.on_memory:
            return False
        for name, column in self._parts.columns:
            if self._is_worn(column):
                self._rewrite_window(name, column)
                return True
        return False

    def _is_worn(self, column: Column) -> bool:
        return bool(column.segments) and column.dead >= self._parts.options.dead_share * column.rows and column.dead > column.dead_left

    def waiting(self) -> dict[str, int]:
        """Pieces of work: segments to seal, columns to rewrite, deleted indexes to free. Any thread may ask."""
        columns = [column for _, column in self._parts.columns]
        with self._parts.store.read() as txn, txn.cursor(db=self._parts.store.meta) as cursor:
            freed = sum(1 for _ in prefixed(cursor, b"purge"))
        return {
            "seal": sum(column.tail_rows // self._parts.options.segment_codes for column in columns),
            "rewrite": sum(self._is_worn(column) for column in columns),
            "free": freed,
        }

    def _rewrite_window(self, name: ColumnName, column: Column) -> None:
        """The windows of a column come in turn. What a whole turn leaves is in the tail, or too thinly spread to pay: it waits for more."""
        segments = column.segments
        start = column.rewritten_to if column.rewritten_to < len(segments) else 0
        chosen = segments[start : start + REWRITE_SEGMENTS]
        worn, dropped = self._rewrite_segments(name, column, chosen)
        column.rewritten_to = start + len(chosen) - worn
        with self._parts.writing:
            column.dead = max(0, column.dead - dropped)
        if dropped:
            column.dead_left = 0
        elif column.rewritten_to >= len(segments):
            column.rewritten_to = 0
            column.dead_left = column.dead + len(segments)

    def _rewrite_segments(self, name: ColumnName, column: Column, chosen: tuple[Segment, ...]) -> tuple[int, int]:
        """Returns how many segments were rewritten, and how many rows are gone."""
        with self._parts.store.read() as txn:
            sequence = sequence_of(txn, self._parts.store)
            live = [live_rows(txn, self._parts.store, name[0], name[1], segment.words) for segment in chosen]
        rows = sum(words.shape[1] for words in live)
        many_doubled = rows - sort_distinct(live).shape[1] > (1 - KEPT_SHARE) * rows
        worn = [at for at, words in enumerate(live) if many_doubled or words.shape[1] < KEPT_SHARE * chosen[at].rows]
        if not worn:
            return 0, 0
        merged = sort_distinct([live[at] for at in worn])
        self._swap(name, column, {chosen[at].token for at in worn}, merged, sequence)
        self._parts.tally.segments_rewritten += len(worn)
        return len(worn), sum(chosen[at].rows for at in worn) - int(merged.shape[1])

    def _swap(self, name: ColumnName, column: Column, tokens: set[Token], words: Words, sequence: int) -> None:
        """New segments in the place of these, in LMDB and in the column; then the files of the old ones go. The rows were collected at
        `sequence`: a search that is older may need what was dead by then."""
        replaced: list[Segment] = []
        with self._written(words, self._parts.options.segment_codes) as written, self._parts.writing:
            self._require_index(name)
            old = [segment for segment in column.segments if segment.token in tokens]  # with the graphs they have by now
            with self._parts.change() as txn:
                for segment in old:
                    txn.delete(column_key(*name) + segment.token, db=self._parts.store.segments)
                for segment, row in written:
                    self._parts.put_segment(txn, name, segment.token, row)
            column.replace(tokens, [segment for segment, _ in written], sequence)
            replaced = old
        for segment in replaced:
            self._remove_files(segment.token, segment.graphs)

    def _remove_files(self, token: Token, graphs: tuple[GraphFile, ...]) -> None:
        """A mapped file may be unlinked: searches that hold it go on."""
        self._graphs.forget(token, graphs)
        for path in self._parts.directory.glob(f"{token.hex()}.*"):
            path.unlink(missing_ok=True)

    def _purge(self) -> bool:
        """Frees some keys of one deleted index."""
        with self._parts.store.read() as txn, txn.cursor(db=self._parts.store.meta) as cursor:
            waiting = next((key[len(b"purge") :] for key, _ in prefixed(cursor, b"purge")), None)
        if waiting is None:
            return False
        gone: list[tuple[Token, tuple[GraphFile, ...]]] = []
        with self._parts.writing, self._parts.store.write(0) as txn:
            room = PURGE_KEYS
            for table in PURGED_TABLES:
                room -= self._delete_some(txn, table, waiting, room)
            if room > 0:
                with txn.cursor(db=self._parts.store.segments) as cursor:
                    rows = list(prefixed(cursor, waiting))
                gone = [(Token(key[-8:]), segment_rows.decode(value).graphs) for key, value in rows]
                for key, _ in rows:
                    txn.delete(key, db=self._parts.store.segments)
                txn.delete(b"purge" + waiting, db=self._parts.store.meta)
        self._parts.tally.keys_purged += PURGE_KEYS - max(room, 0)
        for token, graphs in gone:
            self._remove_files(token, graphs)
        return True

    def _delete_some(self, txn: Transaction, table: str, prefix: bytes, most: int) -> int:
        deleted = 0
        with txn.cursor(db=getattr(self._parts.store, table)) as cursor:
            found = most > 0 and cursor.set_range(prefix)
            while found and deleted < most and cursor.key().startswith(prefix):
                found = cursor.delete(dupdata=True) and bool(cursor.key())
                deleted += 1
        return deleted
