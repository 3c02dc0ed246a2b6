"""Checking a data directory that no process serves: every page of LMDB, every derived file against its digest, the counters.

Reads everything once. LMDB is mapped only when reading it as a plain file found nothing wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from service.engine.columns import Token
from service.engine.errors import Damaged
from service.engine.files import LIVE, SEGMENTS, DirectoryLock
from service.engine.graphs import check
from service.engine.header import lmdb_problems
from service.engine.layout import index_rows, parse_column_key, segment_rows, u32
from service.engine.segments import is_whole, segment_path
from service.engine.store import Store, prefixed


def verify(directory: Path) -> list[str]:
    """What is wrong, one sentence each, with what follows from it. Raises Locked when a process serves the directory."""
    live = directory / LIVE
    if not (live / "data.mdb").is_file():
        return [f"{live / 'data.mdb'} is not there: no tidepool data directory, or its main file is lost; restore a copy"]
    with DirectoryLock(directory):
        advice = "the data is damaged: move it away and restore a copy"
        broken = [f"{live / 'data.mdb'}: {problem}; {advice}" for problem in lmdb_problems(live / "data.mdb")]
        if broken:
            return broken
        try:
            store = Store(live)
        except Damaged as error:
            return [str(error)]
        try:
            return [*_file_problems(store, live / SEGMENTS), *_count_problems(store)]
        finally:
            store.close()


def _file_problems(store: Store, directory: Path) -> Iterator[str]:
    rebuilt = "it is rebuilt at the next start"
    with store.read() as txn, txn.cursor(db=store.segments) as cursor:
        for key, value in cursor.iternext():
            row = segment_rows.decode(value)
            path = segment_path(directory, Token(key[-8:]))
            if not is_whole(path, row, parse_column_key(key)[2]):
                yield f"{path} is missing or differs from its digest: {rebuilt}"
            for graph in row.graphs:
                if not check(directory / graph.name, graph):
                    yield f"{directory / graph.name} is missing or differs from its digest: {rebuilt}"


def _count_problems(store: Store) -> Iterator[str]:
    with store.read() as txn:
        with txn.cursor(db=store.indexes) as cursor:
            indexes = [(name.decode(), index_rows.decode(value)) for name, value in cursor.iternext()]
        for name, index in indexes:
            with txn.cursor(db=store.assets) as cursor:
                count = sum(1 for _ in prefixed(cursor, u32(index.number)))
            if count != index.assets:
                yield f"index '{name}' says that it has {index.assets} assets and has {count}: the data is damaged, restore a copy"
