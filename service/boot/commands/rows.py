"""`show` of a file: the rows that never reached the bucket, or any log object that was copied out of it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from service.boot.commands.told import EXIT_PROBLEMS, Told
from service.engine.codes import format_id
from service.engine.layout import FORMAT, log_heads, log_rows
from service.engine.requests import AddAssets, CreateIndex, DeleteAsset, DeleteIndex, Request
from service.tables import members, moment, size, table
from snapshots.errors import Missing
from snapshots.log import Header, Row
from snapshots.unshipped import read_unshipped

IDS_SHOWN = 3
"""In a table; programs get all."""


class ShownRow(msgspec.Struct, frozen=True):
    """One committed request. `kind` is `add`, `delete`, `create`, `drop`, or empty with a `problem`."""

    sequence: int
    time_us: int
    bytes: int
    kind: str
    index: str
    iscc_ids: list[str]
    problem: str = ""


class ShownLog(msgspec.Struct, frozen=True):
    """A file of rows."""

    path: str
    header: Header
    rows: list[ShownRow]


def show_file(path: Path) -> Told:
    """Raises Missing or Corrupt."""
    if not path.is_file():
        raise Missing(f"there is no file {path}; give a generation, or a file that ends with .log")
    found = read_unshipped(path)
    rows = [_shown(row) for row in found.rows]
    problems = tuple(f"row {row.sequence} of {path}: {row.problem}" for row in rows if row.problem)
    data = ShownLog(str(path), found.header, rows)
    return Told(data, f"{_figures(found.header)}\n\n{_table(rows)}", problems, EXIT_PROBLEMS if problems else 0)


def _shown(row: Row) -> ShownRow:
    try:
        head = log_heads.decode(row.data)
        if head.format != FORMAT:
            return _unknown(row, f"it has format {head.format}, this version reads {FORMAT}: run the version that wrote it")
        request = log_rows.decode(row.data).request
    except msgspec.MsgspecError as error:
        return _unknown(row, f"it cannot be read: {error}")
    return ShownRow(row.sequence, row.time_us, len(row.data), *_told(request))


def _unknown(row: Row, problem: str) -> ShownRow:
    return ShownRow(row.sequence, row.time_us, len(row.data), "", "", [], problem)


def _told(request: Request) -> tuple[str, str, list[str]]:
    match request:
        case CreateIndex():
            return "create", request.name, []
        case DeleteIndex():
            return "drop", request.name, []
        case AddAssets():
            return "add", request.index, [format_id(asset.realm, asset.key) for asset in request.assets]
        case DeleteAsset():
            return "delete", request.index, [format_id(request.realm, request.key)]


def _figures(header: Header) -> str:
    return members(
        [
            ("lineage", header.lineage),
            ("epoch", header.epoch),
            ("writer", header.writer),
            ("would have been", f"log object {header.number}"),
            ("requests", f"{header.first} to {header.last}" if header.rows else "none: a fence"),
            ("written", moment(header.created_us)),
        ]
    )


def _table(rows: list[ShownRow]) -> str:
    cells = [(row.sequence, moment(row.time_us), row.kind or "?", row.index, size(row.bytes), _some(row.iscc_ids)) for row in rows]
    return table(["request", "committed", "kind", "index", "size", "assets"], cells, right=["request", "size"])


def _some(ids: list[str]) -> str:
    more = len(ids) - IDS_SHOWN
    return " ".join(ids[:IDS_SHOWN]) + (f" and {more} more" if more > 0 else "")
