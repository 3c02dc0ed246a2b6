"""What the parts of one engine share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import msgspec

from service.engine.columns import ColumnName, Columns, Token
from service.engine.journal import Journal
from service.engine.layout import SegmentRow, column_key, encode
from service.engine.options import Options
from service.engine.pressure import Pressure
from service.engine.store import Store, Transaction
from service.engine.tiers import Tiers

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


class Parts(NamedTuple):
    """Made once, when the engine is opened. `writing` is held for a transaction and the change of a column that belongs to it."""

    directory: Path
    store: Store
    columns: Columns
    tiers: Tiers
    journal: Journal
    options: Options
    writing: threading.Lock
    tally: Tally
    report: Report
    pressure: Pressure

    def change(self) -> AbstractContextManager[Transaction]:
        """A transaction of the background, begun while `writing` is held."""
        return self.store.write(self.options.disk_free_min_bytes)

    def put_segment(self, txn: Transaction, name: ColumnName, token: Token, row: SegmentRow) -> None:
        txn.put(column_key(*name) + token, encode(row), db=self.store.segments)
