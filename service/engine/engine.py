"""The engine: the parts put together, and the few calls that the service makes.

One writer at a time (`commit`, the background), any number of readers. No reader waits for a writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from service.engine.columns import Columns
from service.engine.errors import Conflict, Damaged, Defect, EngineError, Fatal, Invalid, NotFound, Unfit
from service.engine.export import Export, count, export, facts
from service.engine.files import LIVE, SEGMENTS, DirectoryLock
from service.engine.group import Group, Replay, asset_not_found, find_index, require_realm, types_of, units_of
from service.engine.journal import Journal, LogPlace, LogRecord
from service.engine.layout import IndexRow, encode, index_rows, records, u32, unpack_simprints
from service.engine.opening import mark_whole, open_columns, rebuild, refuse_foreign, require_readable
from service.engine.options import Options
from service.engine.parts import Parts, Report, Tally
from service.engine.pressure import Pressure
from service.engine.query import UnitSearch
from service.engine.replay import carry_out, groups
from service.engine.requests import Answer, Body, DeleteAsset, DeleteIndex, IndexInfo, Key, Query, Request, SearchAnswer, StoredAsset
from service.engine.sample import SAMPLE_LIMIT, Asked, Sample, choose, stored_indexes
from service.engine.stale import StaleView
from service.engine.store import Store, StoreError, Transaction, asset_simprints, put_sequence, sequence_of
from service.engine.tiers import Tiers
from service.engine.upkeep import Upkeep

if TYPE_CHECKING:
    from service.engine.simprints import SimprintSearch

T = TypeVar("T")
REFUSALS = (Conflict, Invalid, NotFound, Unfit)
STALE_VIEWS_MAX = 1_000


class EngineStats(msgspec.Struct, frozen=True):
    """What the engine holds and has done. Every member is a number for a metric."""

    sequence: int
    indexes: int
    assets: int
    columns: int
    tail_rows: int
    segment_rows: int
    graph_rows: int
    dead_rows: int
    segments: int
    graphs: int
    lmdb_bytes: int
    done: Tally


class Engine:
    """Lives as long as the process. `commit` is called by one thread at a time, the reads by any."""

    def __init__(self, directory: Path, options: Options, report: Report, lock: DirectoryLock | None = None) -> None:
        self._options = options
        self._report = report
        refuse_foreign(directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._own_lock = DirectoryLock(directory) if lock is None else None
        self._directory = directory
        self._fatal: Fatal | None = None
        try:
            require_readable(directory)
            self._open(directory / LIVE)
        except BaseException:
            self._release()
            raise

    @classmethod
    def open(cls, directory: Path, options: Options, *, on_event: Report, lock: DirectoryLock | None = None) -> Engine:
        """Locks the directory, opens LMDB, maps segments and reads the tail. Raises Locked or Damaged. A lock that is given stays the
        caller's: he took it and he gives it back, after `close`."""
        return cls(directory, options, on_event, lock)

    def _release(self) -> None:
        if self._own_lock is not None:
            self._own_lock.release()

    def _open(self, live: Path) -> None:
        files = live / SEGMENTS
        self._store = Store(live, map_bytes=self._options.map_bytes)
        try:
            self._read(files)
        except BaseException:
            self._store.close()
            raise

    def _read(self, files: Path) -> None:
        files.mkdir(exist_ok=True)
        self._tally = Tally()
        self._writing = threading.Lock()
        self._columns = Columns(self._options.segment_codes)
        self._tiers = Tiers(files)
        self._journal = Journal(self._store, keep=self._options.keep_log)
        self._committed: Callable[[], None] = _ignore
        self._parts = Parts(
            files,
            self._store,
            self._columns,
            self._tiers,
            self._journal,
            self._options,
            self._writing,
            self._tally,
            self._report,
            Pressure(),
        )
        self._simprint_search = _simprint_search() if self._options.simprints else None
        self._upkeep = Upkeep(self._parts)
        self._doubtful = open_columns(self._parts, self._upkeep.graphs.check_later)

    def catch_up(self) -> None:
        """Rebuilds derived files that are missing or damaged. When it returns, every acknowledged asset is found."""
        rebuild(self._doubtful, self._parts, self._upkeep.graphs.check_later)
        self._doubtful = []

    def start_background(self) -> None:
        """Sealing, rewriting, freeing and graphs go on from now on."""
        self._upkeep.start()

    def upkeep_step(self) -> bool:
        """One piece of background work on the calling thread, while the background is not started; False when there is none."""
        return self._upkeep.step()

    def shed_when(self, disk: Callable[[], bool], memory: Callable[[], bool]) -> None:
        """Has them asked whether the disk or the memory is short: then background work waits that nobody misses at once."""
        self._parts.pressure.watch(disk, memory)

    def background_queue(self) -> dict[str, int]:
        """Pieces of background work that wait, by job."""
        return self._upkeep.waiting()

    def close(self) -> None:
        """Only after every call of `commit` and of the reads has returned."""
        self._upkeep.stop()
        self._store.close()
        if self._fatal is None and self._upkeep.fatal is None:
            mark_whole(self._directory)
        self._release()

    def commit(self, requests: Sequence[Request]) -> list[Answer | EngineError]:
        """One group in one transaction, fsynced when this returns. A refused request has its error in its place."""
        before = self.sequence
        with self._writing_allowed():
            answers = self._commit(requests)
        refused = sum(isinstance(answer, EngineError) for answer in answers)
        self._tally.commits += 1
        self._tally.requests += len(requests)
        self._tally.refused += refused
        self._upkeep.wake()
        if self.sequence != before:
            self._committed()
        return answers

    @contextmanager
    def _writing_allowed(self) -> Iterator[None]:
        """The writing lock. After a commit that failed nothing is written any more."""
        if self._fatal is not None or self._upkeep.fatal is not None:
            raise Fatal(f"nothing is written after a failed commit: {self._fatal or self._upkeep.fatal}")
        with self._writing:
            try:
                yield
            except Fatal as error:
                self._fatal = error
                raise

    def _commit(self, requests: Sequence[Request]) -> list[Answer | EngineError]:
        answers: list[Answer | EngineError] = []
        now_us = time.time_ns() // 1_000
        room = self._store.lack_of_room(self._options.disk_free_min_bytes)
        with self._store.write(0) as txn:
            group = Group(txn, self._store, self._columns)
            for request in requests:
                frees = isinstance(request, DeleteAsset | DeleteIndex)
                answers.append(self._apply(group, request, now_us) if room is None or frees else room)
            oldest = self._journal.trim(txn, len(requests))
        self._journal.trimmed(oldest)
        if group.first is not None:
            self._journal.committed(group.sequence, group.first, group.log_bytes)
        for number in group.dropped:
            self._columns.drop(number)
        return answers

    def _apply(self, group: Group, request: Request, now_us: int) -> Answer | EngineError:
        """What is refused, and what meets a defect of ours, is undone alone; only the store's own errors take the group with them."""
        try:
            return group.apply(request, now_us)
        except REFUSALS as error:
            return error
        except (EngineError, StoreError):
            raise
        except Exception as error:  # noqa: BLE001 - a request that meets a defect must not stop the others; it is reported and answered
            self._report("defect", {"error": repr(error), "request": type(request).__name__})
            return Defect(f"the request met a defect of the service: {type(error).__name__}")

    @property
    def sequence(self) -> int:
        """Number of the last committed request."""
        return self._journal.sequence

    @property
    def stale_readers(self) -> int:
        """Places of readers in LMDB that ended without a word, freed since the start."""
        return self._store.stale_readers

    @property
    def log_bytes(self) -> int:
        """Bytes of the log rows that are not released."""
        return self._journal.bytes

    @property
    def log_first(self) -> LogPlace | None:
        """The oldest log row that is not released."""
        return self._journal.first

    def log_after(self, sequence: int, bytes_max: int) -> list[LogRecord]:
        """Log rows behind `sequence` that are not released, in order: at most `bytes_max` bytes, but at least one if there is one."""
        return self._journal.after(sequence, bytes_max)

    def release_log(self, sequence: int) -> None:
        """Log rows up to `sequence` are kept elsewhere by now: they are deleted with the next commits, or in the background."""
        self._journal.release(sequence)

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Has `callback` called on the committing thread after each commit that moved the sequence. It must be quick."""
        self._committed = callback

    def replay(self, records: Sequence[LogRecord]) -> None:
        """Applies log rows of another engine, some megabytes a call to be quick. Those that are here already are skipped. A gap, a row of
        an unknown format or one that is refused raises Damaged, and nothing of its group was done. No `commit` meanwhile."""
        for group in groups(records, self.sequence):
            with self._writing_allowed():
                self._replay(group)
            self._upkeep.wake()

    def _replay(self, records: list[LogRecord]) -> None:
        if records[0].sequence != self.sequence + 1:
            raise Damaged(f"another write came between, before log row {records[0].sequence} last={self.sequence}")
        last = records[-1].sequence
        with self._store.write(self._options.disk_free_min_bytes) as txn:
            replay = Replay(txn, self._store, self._columns)
            put_sequence(txn, self._store, last, carry_out(records, replay))
        self._journal.committed(last, None, 0)
        for number in replay.dropped:
            self._columns.drop(number)

    def export(self, target: Path) -> Export:
        """A consistent copy in a new directory, while everything goes on; after `catch_up`. Raises NoSpace or Unwritable, and then nothing
        is left of it."""
        return export(self._parts, target)

    def doubt(self, file: str) -> None:
        """A sealed file, by its name, differs from its digest: the background looks at it, and makes it again from the postings."""
        self._upkeep.doubt(file)

    def facts(self) -> dict[str, str]:
        """What an export is written by, see `unfit`."""
        return facts(self._store)

    def counts(self) -> dict[str, int]:
        """The counts of an export, as they are now."""
        with self._store.read() as txn:
            return count(txn, self._store)

    def indexes(self) -> list[IndexInfo]:
        """All indexes by name."""
        with self._store.read() as txn, txn.cursor(db=self._store.indexes) as cursor:
            return [self._info(txn, name.decode(), index_rows.decode(value)) for name, value in cursor.iternext()]

    def index(self, name: str) -> IndexInfo:
        """The counters of one index."""
        with self._store.read() as txn:
            return self._info(txn, name, find_index(txn, self._store, name))

    def _info(self, txn: Transaction, name: str, row: IndexRow) -> IndexInfo:
        sizes = {}
        for type_name, found in types_of(txn, self._store, row.number):
            shown = type_name[1:] if type_name.startswith("u") else f"SIMPRINT_{type_name[1:]}"
            sizes[shown] = sum(length * count for length, count in found.codes.items())
        return IndexInfo(name, row.assets, row.record_bytes, sizes)

    def asset(self, index: str, realm: int, key: Key) -> StoredAsset:
        """One asset as it is stored."""
        with self._store.read() as txn:
            return self._asset(txn, find_index(txn, self._store, index), realm, key)

    def _asset(self, txn: Transaction, row: IndexRow, realm: int, key: Key) -> StoredAsset:
        require_realm(row, realm, key)
        stored = txn.get(u32(row.number) + key, db=self._store.assets)
        if stored is None:
            raise asset_not_found(realm, key)
        return records.decode(stored)

    def search(self, index: str, query: Query, limit: int) -> SearchAnswer:
        """The best matches in order."""
        return self._with_view(lambda txn, sequence: self._search(txn, sequence, index, query, limit))

    def _with_view(self, search: Callable[[Transaction, int], T]) -> T:
        """Starts again when columns changed under the transaction: each time with a newer one, so it ends when the changes pause."""
        for _ in range(STALE_VIEWS_MAX):
            with self._store.read() as txn:
                try:
                    return search(txn, sequence_of(txn, self._store))
                except StaleView:
                    continue
        raise Damaged("a search found its columns newer than LMDB each time: restart the process")

    def _search(self, txn: Transaction, sequence: int, index: str, query: Query, limit: int) -> SearchAnswer:
        row = find_index(txn, self._store, index)
        asset = self._asset(txn, row, query.realm, query.key) if query.key is not None else None
        units = units_of(asset) if asset is not None else query.units
        units_search = UnitSearch(txn, sequence, self._store, self._columns, self._tiers, self._options)
        matches, truncated = units_search.run(row, units, limit, leave_out=query.key)
        if self._simprint_search is None:
            return SearchAnswer(matches, [], truncated, asset, {})
        simprints, left_out = (query.simprints, False) if query.key is None else self._own_simprints(txn, row, query.key)
        simprint_search = self._simprint_search(txn, sequence, self._parts)
        chunk_matches, cut = simprint_search.run(row, simprints, limit, leave_out=query.key, exact=query.exact)
        return SearchAnswer(matches, chunk_matches, truncated or cut or left_out, asset, simprints)

    def sample(self, count: int, seed: int) -> Sample:
        """Searches for some assets of each index, chosen by chance, and their answers: all at one moment."""
        with self._store.read() as txn:
            queries = choose(txn, self._store, count, seed)
        return self.answer(queries)

    def answer(self, queries: Sequence[Asked]) -> Sample:
        """The answers to these searches, all at one moment. What is not there any more is not an error: it is the answer."""
        return self._with_view(lambda txn, sequence: self._answer(txn, sequence, queries))

    def _answer(self, txn: Transaction, sequence: int, queries: Sequence[Asked]) -> Sample:
        counts = {name: row.assets for name, row in stored_indexes(txn, self._store).items()}
        answers = []
        for asked in queries:
            query = Query([], {}, asked.realm, asked.key)
            try:
                answers.append(encode(self._search(txn, sequence, asked.index, query, SAMPLE_LIMIT)))
            except NotFound as error:
                answers.append(encode(str(error)))
        return Sample(sequence, counts, list(queries), answers)

    def _own_simprints(self, txn: Transaction, row: IndexRow, key: Key) -> tuple[dict[str, list[Body]], bool]:
        """What a search by ISCC-ID asks for: each simprint of the asset once; and whether some were left out: a query has a bound."""
        stored = asset_simprints(txn, self._store, row.number, key)
        if not stored:
            return {}, False
        own: dict[str, list[Body]] = {}
        left_out = False
        room = self._options.max_query_simprints
        for name, found in types_of(txn, self._store, row.number):
            if name.startswith("s") and found.number in stored:
                bodies = dict.fromkeys(simprint.body for simprint in unpack_simprints(stored[found.number], found.width))
                left_out = left_out or len(bodies) > room
                if room > 0:
                    own[name[1:]] = list(bodies)[:room]
                room = max(0, room - len(bodies))
        return own, left_out

    def stats(self) -> EngineStats:
        """Counts of what is held, from memory and the rows of the indexes."""
        with self._store.read() as txn, txn.cursor(db=self._store.indexes) as cursor:
            rows = [index_rows.decode(value) for _, value in cursor.iternext()]
            sequence = sequence_of(txn, self._store)
        columns = [column for _, column in self._columns]
        segments = [segment for column in columns for segment in column.segments]
        return EngineStats(
            sequence=sequence,
            indexes=len(rows),
            assets=sum(row.assets for row in rows),
            columns=len(columns),
            tail_rows=sum(column.tail_rows for column in columns),
            segment_rows=sum(segment.rows for segment in segments),
            graph_rows=sum(segment.rows for segment in segments if segment.graphs),
            dead_rows=sum(column.dead for column in columns),
            segments=len(segments),
            graphs=sum(len(segment.graphs) for segment in segments),
            lmdb_bytes=self._store.file_bytes(),
            done=msgspec.structs.replace(self._tally),
        )


def _simprint_search() -> type[SimprintSearch]:
    """Imported only where simprints are searched."""
    from service.engine import simprints

    return simprints.SimprintSearch


def _ignore() -> None:
    """Before somebody listens."""
