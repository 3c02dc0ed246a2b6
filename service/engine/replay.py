"""Carrying out requests that were committed elsewhere: the rows of a log, in order, each under the sequence that it had.

The state is exactly that of the engine that logged them: numbers of indexes and types come from counters in the transaction, and all
requests that moved them are in the log. No row is written here: whoever gave the rows has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from service.engine.errors import Conflict, Damaged, EngineError, Invalid, NotFound, Unfit
from service.engine.group import Replay
from service.engine.journal import LogRecord
from service.engine.layout import FORMAT, LogHead, LogRow, log_heads, log_rows
from service.engine.store import StoreError

GROUP_BYTES = 1 << 20
"""Rows of one transaction. More is hardly quicker, and LMDB keeps the memory of its largest commit: up to a page for each posting."""


def groups(records: Sequence[LogRecord], sequence: int) -> Iterator[list[LogRecord]]:
    """The rows behind `sequence` in groups for one transaction each. Raises Damaged at a gap, before the group that it is in."""
    group: list[LogRecord] = []
    size = 0
    for record in records:
        if record.sequence <= sequence:
            continue
        if record.sequence != sequence + 1:
            raise Damaged(f"the log has a gap: row {sequence + 1} is missing, the next one is {record.sequence}")
        sequence = record.sequence
        group.append(record)
        size += len(record.data)
        if size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def carry_out(group: list[LogRecord], replay: Replay) -> int:
    """Applies the rows. Returns the commit time of the last one."""
    time_us = 0
    for record in group:
        row = _decode(record)
        time_us = row.time_us
        try:
            replay.apply(row.request)
        except (Conflict, Invalid, NotFound, Unfit) as error:
            raise Damaged(f"log row {record.sequence} does not fit what is stored: {error}") from error
        except (EngineError, StoreError):
            raise
        except Exception as error:  # the row was carried out once: that it fails now says that the data is another
            raise Damaged(f"log row {record.sequence} cannot be carried out: {error!r}") from error
    try:
        replay.finish()
    except (EngineError, StoreError):
        raise
    except Exception as error:
        raise Damaged(f"log row {group[-1].sequence} or one shortly before it cannot be carried out: {error!r}") from error
    return time_us


def _decode(record: LogRecord) -> LogRow:
    try:
        head = log_heads.decode(record.data)
        _require_known(record, head)
        return log_rows.decode(record.data)
    except msgspec.MsgspecError as error:
        raise Damaged(f"log row {record.sequence} cannot be read: {error}") from error


def _require_known(record: LogRecord, head: LogHead) -> None:
    if head.format != FORMAT:
        raise Damaged(
            f"log row {record.sequence} has format {head.format}, this version reads {FORMAT}: "
            "it was written by a newer version, run that one"
        )
