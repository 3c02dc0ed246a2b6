"""`show` of files: the rows that never reached the bucket, or any log object that was copied out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from service.boot.commands.sending import Entry, Outcome, bodies, entry, outcomes
from service.boot.commands.told import EXIT_PROBLEMS, Told
from service.engine.codes import format_id
from service.engine.layout import FORMAT, log_heads, log_rows
from service.engine.requests import AddAssets, CreateIndex, DeleteAsset, DeleteIndex, Request
from service.tables import members, moment, table
from snapshots.errors import Corrupt, Missing
from snapshots.log import Header, Row
from snapshots.unshipped import read_unshipped

LINES_SHOWN = 100
"""In a table; programs get all."""
WHOLE = {"create": "create index", "drop": "drop index"}


class ShownRow(msgspec.Struct, frozen=True):
    """One committed request. `kind` is `add`, `delete`, `create`, `drop`, or empty with a `problem`. `assets` are those of an add."""

    sequence: int
    time_us: int
    bytes: int
    kind: str
    index: str
    iscc_ids: list[str]
    assets: list[Entry] = []
    problem: str = ""


class ShownLog(msgspec.Struct, frozen=True):
    """A file of rows."""

    path: str
    header: Header
    rows: list[ShownRow]


class _Read(msgspec.Struct, frozen=True):
    row: Row
    request: Request | None
    problem: str = ""


class _File(msgspec.Struct, frozen=True):
    path: Path
    header: Header
    rows: list[_Read]

    @property
    def problems(self) -> list[str]:
        return [f"row {each.row.sequence} of {self.path}: {each.problem}" for each in self.rows if each.problem]


def show_files(paths: Sequence[Path]) -> Told:
    """The data is a list when there are several. Raises Missing or Corrupt."""
    files = _files(paths)
    shown = [ShownLog(str(file.path), file.header, [_shown(each) for each in file.rows]) for file in files]
    problems = tuple(problem for file in files for problem in file.problems)
    texts = [f"{_figures(file.header, _outcomes(file.rows))}\n\n{_table(log.rows)}" for file, log in zip(files, shown, strict=True)]
    return Told(shown[0] if len(shown) == 1 else shown, "\n\n".join(texts), problems, EXIT_PROBLEMS if problems else 0)


def show_adds(paths: Sequence[Path], index: str) -> Told:
    """What an index got, to be sent again: a body in each line. Raises also when a row cannot be read, since all of them count."""
    found = list(bodies(_of(paths, index).adds))
    return Told([msgspec.Raw(body) for body in found], b"\n".join(found).decode())


def show_deletes(paths: Sequence[Path], index: str) -> Told:
    """What an index lost, one ISCC-ID in each line. Raises as `show_adds`."""
    found = _of(paths, index).deletes
    return Told(found, "\n".join(found))


def _of(paths: Sequence[Path], index: str) -> Outcome:
    """Of all files together, as if they were one."""
    files = _files(paths)
    for file in files:
        if file.problems:
            raise Corrupt(file.problems[0])
    there = _outcomes([each for file in files for each in file.rows])
    if index not in there:
        names = ", ".join(str(file.path) for file in files)
        raise Missing(f"{names} has nothing of an index {index}; it has {', '.join(there) or 'none'}")
    return there[index]


def _files(paths: Sequence[Path]) -> list[_File]:
    """In the order in which they were written: a process that loses the bucket again owned it under a later epoch."""
    return sorted(map(_file, paths), key=lambda file: (file.header.epoch, file.header.first))


def _file(path: Path) -> _File:
    if not path.is_file():
        raise Missing(f"there is no file {path}; give a generation, or a file that ends with .log")
    found = read_unshipped(path)
    return _File(path, found.header, [_read(row) for row in found.rows])


def _outcomes(found: list[_Read]) -> dict[str, Outcome]:
    return outcomes(each.request for each in found if each.request is not None)


def _read(row: Row) -> _Read:
    try:
        head = log_heads.decode(row.data)
        if head.format != FORMAT:
            return _Read(row, None, f"it has format {head.format}, this version reads {FORMAT}: run the version that wrote it")
        return _Read(row, log_rows.decode(row.data).request)
    except msgspec.MsgspecError as error:
        return _Read(row, None, f"it cannot be read: {error}")


def _shown(found: _Read) -> ShownRow:
    row = found.row
    kind, index, ids, assets = _told(found.request)
    return ShownRow(row.sequence, row.time_us, len(row.data), kind, index, ids, assets, found.problem)


def _told(request: Request | None) -> tuple[str, str, list[str], list[Entry]]:
    match request:
        case CreateIndex():
            return "create", request.name, [], []
        case DeleteIndex():
            return "drop", request.name, [], []
        case AddAssets():
            assets = [entry(asset) for asset in request.assets]
            return "add", request.index, [asset.iscc_id for asset in assets], assets
        case DeleteAsset():
            return "delete", request.index, [format_id(request.realm, request.key)], []
        case _:
            return "", "", [], []


def _figures(header: Header, indexes: dict[str, Outcome]) -> str:
    return members(
        [
            ("lineage", header.lineage),
            ("epoch", header.epoch),
            ("writer", header.writer),
            ("would have been", f"log object {header.number}"),
            ("requests", f"{header.first} to {header.last}" if header.rows else "none: a fence"),
            ("written", moment(header.created_us)),
            *((f"index {name}", _in_all(name, found)) for name, found in indexes.items()),
        ]
    )


def _in_all(name: str, found: Outcome) -> str:
    adds = [f"{len(found.adds)} to add (--adds {name})"] if found.adds else []
    deletes = [f"{len(found.deletes)} to delete (--deletes {name})"] if found.deletes else []
    return ", ".join(adds + deletes) or "no assets"


def _table(rows: list[ShownRow]) -> str:
    lines = list(_lines(rows))
    text = table(["request", "committed", "operation", "index", "asset"], lines[:LINES_SHOWN], right=["request"])
    more = len(lines) - LINES_SHOWN
    return f"{text}\nand {more} more: --json has all" if more > 0 else text


def _lines(rows: list[ShownRow]) -> Iterator[tuple[object, ...]]:
    """One for each asset. An add of what the same file added before is an update; what an asset was before the file is not in it."""
    there: set[tuple[str, str]] = set()
    for row in rows:
        told = row.sequence, moment(row.time_us)
        if not row.iscc_ids:
            yield *told, WHOLE.get(row.kind, "?"), row.index, ""
            there = {each for each in there if each[0] != row.index}
        for number in row.iscc_ids:
            asset = (row.index, number)
            yield *told, "update" if row.kind == "add" and asset in there else row.kind, *asset
            (there.add if row.kind == "add" else there.discard)(asset)
