"""Exporting: a consistent copy of LMDB and links to the sealed files that it names, while everything goes on.

    <target>/data.mdb                 a raw copy of LMDB at one transaction: the cut
    <target>/segments/<name>          hard links to the segment and graph files that the copy names

No lock is held. The files of the moment are linked before the copy, so that a rewrite cannot take them away, and those that were sealed
meanwhile after it. A file that came and went in between is the one thing that can be missed: then everything is done again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import msgspec

from service import __version__
from service.engine.columns import Token
from service.engine.errors import NoSpace, Unwritable
from service.engine.files import NO_SPACE, SEGMENTS, sync_directory
from service.engine.layout import FORMAT, index_rows, parse_column_key, segment_rows, type_rows, u32
from service.engine.parts import Parts
from service.engine.segments import segment_path
from service.engine.store import LMDB_ENGINE, PAGE_BYTES, Store, Transaction, prefixed, sequence_of, time_of

ATTEMPTS = 5


class ExportFile(msgspec.Struct, frozen=True):
    """`path` below the target. `sha256` (hex) is what was recorded when the file was sealed, None when it was not."""

    path: str
    size: int
    sha256: str | None


class Export(msgspec.Struct, frozen=True):
    """What a copy holds: everything up to `sequence`, whose commit time is `time_us` (0 when nothing was written yet)."""

    sequence: int
    time_us: int
    counts: dict[str, int]
    files: list[ExportFile]


class _Sealed(NamedTuple):
    """A file that a copy names."""

    name: str
    size: int
    digest: bytes
    needed: bool
    """False for a graph: it is built again where it is missing."""


class _Vanished(Exception):
    """A file was sealed and rewritten during the copy."""


def export(parts: Parts, target: Path) -> Export:
    """Makes `target`. On an error it is not there. Raises NoSpace or Unwritable."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Unwritable(f"{target} is not empty: an export needs a directory of its own")
    _require_room(parts, target)
    try:
        return _try_often(parts, target)
    except OSError as error:
        shutil.rmtree(target, ignore_errors=True)
        if error.errno in NO_SPACE:
            raise NoSpace(f"cannot write {target}: {error.strerror}; free space on the disk") from error
        raise Unwritable(f"cannot write {target}: {error.strerror}") from error
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _try_often(parts: Parts, target: Path) -> Export:
    missing = ""
    for _ in range(ATTEMPTS):
        try:
            return _export(parts, target)
        except _Vanished as vanished:
            missing = str(vanished)
            shutil.rmtree(target)
    raise Unwritable(f"{parts.directory / missing} was not there in {ATTEMPTS} attempts: if it stays away, start again and it is rebuilt")


def _export(parts: Parts, target: Path) -> Export:
    links = target / SEGMENTS
    links.mkdir(parents=True, exist_ok=True)
    with parts.store.read() as txn:
        before = _sealed_files(txn, parts.store)
    linked = {file.name for file in before if _link(parts.directory / file.name, links)}
    parts.store.copy(target)
    copy = Store(target, readonly=True)
    try:
        with copy.read() as txn:
            named = _sealed_files(txn, copy)
            sequence, time_us, counts = sequence_of(txn, copy), time_of(txn, copy), count(txn, copy)
    finally:
        copy.close()
    kept = [file for file in named if file.name in linked or _link_named(parts.directory, file, links)]
    for name in linked - {file.name for file in kept}:
        (links / name).unlink()
    sync_directory(links)
    sync_directory(target)
    data = ExportFile("data.mdb", (target / "data.mdb").stat().st_size, None)
    return Export(sequence, time_us, counts, [data, *(ExportFile(f"{SEGMENTS}/{f.name}", f.size, f.digest.hex()) for f in kept)])


def _sealed_files(txn: Transaction, store: Store) -> list[_Sealed]:
    """What the `segments` table names, without the indexes that are being freed."""
    with txn.cursor(db=store.indexes) as cursor:
        indexes = {index_rows.decode(value).number for _, value in cursor.iternext()}
    found: list[_Sealed] = []
    with txn.cursor(db=store.segments) as cursor:
        for key, value in cursor.iternext():
            index, _, length = parse_column_key(key)
            row = segment_rows.decode(value)
            if index in indexes:
                found.append(_Sealed(segment_path(Path(), Token(key[-8:])).name, row.rows * length, row.digest, needed=True))
                found.extend(_Sealed(graph.name, graph.size, graph.digest, needed=False) for graph in row.graphs)
    return found


def _link(path: Path, links: Path) -> bool:
    """False when the file is gone."""
    try:
        os.link(path, links / path.name)
    except FileNotFoundError:
        return False
    return True


def _link_named(directory: Path, file: _Sealed, links: Path) -> bool:
    """False for a graph that is not there. A segment has to be there: everything begins again."""
    if not _link(directory / file.name, links):
        if file.needed:
            raise _Vanished(file.name)
        return False
    return True


def count(txn: Transaction, store: Store) -> dict[str, int]:
    """What a copy can be compared by: indexes and assets, the assets of each index, the codes of each of its types."""
    with txn.cursor(db=store.indexes) as cursor:
        rows = [(name.decode(), index_rows.decode(value)) for name, value in cursor.iternext()]
    counts = {"indexes": len(rows), "assets": sum(row.assets for _, row in rows)}
    for name, row in rows:
        counts[f"assets/{name}"] = row.assets
        with txn.cursor(db=store.types) as cursor:
            for key, value in prefixed(cursor, u32(row.number)):
                kind, type_name = key[4:5].decode(), key[5:].decode()
                shown = type_name if kind == "u" else f"SIMPRINT_{type_name}"
                counts[f"codes/{name}/{shown}"] = sum(type_rows.decode(value).codes.values())
    return counts


def _require_room(parts: Parts, target: Path) -> None:
    """A copy is as large as the store, and leaves free what writes leave free."""
    place = next(parent for parent in (target, *target.absolute().parents) if parent.is_dir())
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    needed = parts.store.file_bytes() + parts.options.disk_free_min_bytes
    if free < needed:
        raise NoSpace(
            f"the disk of {place} has {free >> 20} MB left and a copy of the store needs {needed >> 20} MB, with what is kept free "
            "(ISCC_SEARCH_DISK_FREE_MIN_BYTES): free space"
        )


def facts(store: Store) -> dict[str, str]:
    """What wrote a copy: the format of the tables, and every version that its bytes depend on."""
    return {
        "format": str(FORMAT),
        "lmdb": store.lmdb_version,
        "page_size": str(store.page_bytes),
        "py-lmdb": version("lmdb"),
        "usearch": version("usearch"),
        "tidepool": __version__,
    }


def unfit(written: Mapping[str, str]) -> str | None:
    """Why this version cannot open a copy that was written under these facts, None when it can. Graphs do not matter: they are derived."""
    wanted = {"format": str(FORMAT), "page_size": str(PAGE_BYTES), "lmdb": LMDB_ENGINE}
    found = {"format": written.get("format"), "page_size": written.get("page_size"), "lmdb": _engine(written.get("lmdb"))}
    advice = f"it was written by tidepool {written.get('tidepool', 'of an unknown version')}"
    names = {"format": "format", "page_size": "page size", "lmdb": "LMDB engine"}
    for name, value in wanted.items():
        if found[name] != value:
            return f"its {names[name]} is {found[name] or 'not named'}, this version on this machine reads {value}; {advice}"
    return None


def _engine(lmdb_version: str | None) -> str | None:
    """Files of 0.9 and of 1.0 have nothing in common; within one they are the same."""
    return lmdb_version.rpartition(".")[0] if lmdb_version else None
