"""One group of requests inside one write transaction: each is checked against what is stored, then carried out, then logged.

Whatever a request can be refused for is found before its first put. Each runs in a child transaction all the same, so that an error nobody
thought of takes no other request down with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from service.engine import codes
from service.engine.columns import Columns
from service.engine.errors import Conflict, Damaged, Invalid, NotFound, Unfit
from service.engine.journal import LogPlace
from service.engine.layout import FORMAT, IndexRow, LogRow, TypeRow, encode, index_rows, records, simprint_bodies, type_rows, u32, u64
from service.engine.postings import PostingChanges
from service.engine.requests import (
    AddAssets,
    Answer,
    Asset,
    CreateIndex,
    DeleteAsset,
    DeleteIndex,
    Key,
    Raw,
    Request,
    Simprints,
    StoredAsset,
)
from service.engine.store import Store, Transaction, asset_simprints, next_index_number, prefixed, put_sequence, sequence_of

PIECE_POSTINGS = 20_000
"""A request with more is carried out in pieces: sorting a long list would hold up every other thread."""
_RECORD_KEY_BYTES = 12
_INDEX_NAME = re.compile(r"[a-z][a-z0-9]{0,31}")


class Group:
    """Lives as long as one write transaction. `sequence` is that of the last request carried out."""

    def __init__(self, txn: Transaction, store: Store, columns: Columns) -> None:
        self._txn = txn
        self._store = store
        self._columns = columns
        self.sequence = sequence_of(txn, store)
        self.dropped: list[int] = []
        self.first: LogPlace | None = None
        """The first row that was logged, None when none was."""
        self.log_bytes = 0

    def apply(self, request: Request, time_us: int) -> Answer:
        """The answer to one request. Raises Conflict, NotFound, Invalid or Unfit, and then nothing of it was done."""
        with self._store.child(self._txn) as txn:
            work = _Request(txn, self._store, self._columns)
            answer = work.carry_out(request)
            if work.changed:
                row = encode(LogRow(time_us, FORMAT, request))
                txn.put(u64(self.sequence + 1), row, db=self._store.log)
                put_sequence(txn, self._store, self.sequence + 1, time_us)
        if work.changed:
            self.sequence += 1
            self.log_bytes += len(row)
            self.first = self.first or LogPlace(self.sequence, time_us)
        if work.dropped is not None:
            self.dropped.append(work.dropped)
        return answer


class Replay:
    """Requests that were committed before, in the transaction of their group: what is refused takes the group down.

    Requests for one index are one piece of work as long as they touch different assets: their postings go in sorted together, which is most
    of what makes a replay quick. The counters come out the same, because each pair of code and asset is in the work at most once.
    """

    def __init__(self, txn: Transaction, store: Store, columns: Columns) -> None:
        self._txn = txn
        self._store = store
        self._columns = columns
        self._open: dict[str, tuple[_Request, set[Key]]] = {}
        self.dropped: list[int] = []

    def apply(self, request: Request) -> None:
        """Carries out one request, all but its postings and counters: those wait for `finish`."""
        match request:
            case AddAssets():
                self._work(request.index, {asset.key for asset in request.assets}).carry_out(request)
            case DeleteAsset():
                self._work(request.index, {request.key}).carry_out(request)
            case CreateIndex() | DeleteIndex():
                self.finish()
                work = _Request(self._txn, self._store, self._columns)
                work.carry_out(request)
                if work.dropped is not None:
                    self.dropped.append(work.dropped)

    def finish(self) -> None:
        """Everything that was applied is in the transaction."""
        for name in list(self._open):
            self._open.pop(name)[0].finish()

    def _work(self, index: str, keys: set[Key]) -> _Request:
        """The open work of an index. What it did to assets that come again is finished first."""
        if index in self._open and not self._open[index][1].isdisjoint(keys):
            self._open.pop(index)[0].finish()
        if index not in self._open:
            self._open[index] = (_Request(self._txn, self._store, self._columns, waits=True), set())
        work, known = self._open[index]
        known |= keys
        return work


class _Request:
    """One request in its child transaction, or with `waits` several that touch different assets of one index."""

    def __init__(self, txn: Transaction, store: Store, columns: Columns, *, waits: bool = False) -> None:
        self._txn = txn
        self._store = store
        self._columns = columns
        self._waits = waits
        self._index: tuple[str, IndexRow] | None = None
        self._postings = PostingChanges()
        self._types: dict[str, TypeRow] = {}
        self._prefixes: dict[str, bytes] = {}
        self._unit_prefixes: dict[bytes, bytes] = {}
        self._grown = 0
        self.changed = False
        self.dropped: int | None = None

    def carry_out(self, request: Request) -> Answer:
        match request:
            case AddAssets():
                return self._add_assets(request)
            case DeleteAsset():
                self._delete_asset(request)
            case CreateIndex():
                self._create_index(request)
            case DeleteIndex():
                self._delete_index(request)
        return None

    def _create_index(self, request: CreateIndex) -> None:
        name = request.name.encode()
        if self._txn.get(name, db=self._store.indexes) is not None:
            raise Conflict(f"Index '{request.name}' already exists")
        self._txn.put(name, encode(IndexRow(next_index_number(self._txn, self._store))), db=self._store.indexes)
        self.changed = True

    def _delete_index(self, request: DeleteIndex) -> None:
        row = find_index(self._txn, self._store, request.name)
        self._txn.delete(request.name.encode(), db=self._store.indexes)
        self._txn.put(b"purge" + u32(row.number), b"", db=self._store.meta)
        self.dropped = row.number
        self.changed = True

    def _delete_asset(self, request: DeleteAsset) -> None:
        index = self._find_index(request.index)
        require_realm(index, request.realm, request.key)
        record_key = u32(index.number) + request.key
        stored = self._txn.get(record_key, db=self._store.assets)
        if stored is None:
            raise asset_not_found(request.realm, request.key)
        simprints = self._stored_simprints(index, request.key)
        self._postings.remove(self._unit_codes(index, records.decode(stored)) | self._simprint_codes(index, simprints), request.key)
        for name in simprints:
            self._put_simprints(index, request.key, name, b"", simprints[name])
        self._txn.delete(record_key, db=self._store.assets)
        index.assets -= 1
        self._grown -= len(stored) + _RECORD_KEY_BYTES
        self._end_request(index)

    def _add_assets(self, request: AddAssets) -> list[bool]:
        index = self._find_index(request.index)
        if not request.assets:
            return []
        realm = request.assets[0].realm if index.realm < 0 else index.realm
        for asset in request.assets:
            _require_same_realm(realm, asset)
        self._require_widths(index, request.assets)
        last = {asset.key: asset for asset in request.assets}
        with self._txn.cursor(db=self._store.assets) as cursor:
            prefix = u32(index.number)
            stored = dict(cursor.getmulti(sorted(prefix + key for key in last)))
        created = []
        known = {found[4:] for found in stored}
        for asset in request.assets:
            created.append(asset.key not in known)
            known.add(asset.key)
        for key in sorted(last):
            self._put_asset(index, last[key], stored.get(prefix + key))
            if self._postings.size >= PIECE_POSTINGS:
                self._carry_out(index)
        if self.changed:
            index.realm = realm
            self._end_request(index)
        return created

    def _put_asset(self, index: IndexRow, asset: Asset, stored: bytes | None) -> None:
        """Replaces code, units and metadata wholly; simprints only when they are given."""
        record = StoredAsset(asset.code, asset.units, asset.metadata)
        packed = encode(record)
        if packed != stored:
            before = self._unit_codes(index, records.decode(stored)) if stored is not None else set()
            self._replace_codes(asset.key, before, self._unit_codes(index, record))
            self._txn.put(u32(index.number) + asset.key, packed, db=self._store.assets)
            self._grown += len(packed) - len(stored) if stored is not None else len(packed) + _RECORD_KEY_BYTES
            index.assets += stored is None
            self.changed = True
        if asset.simprints is not None:
            self._put_all_simprints(index, asset.key, asset.simprints, known=stored is not None)

    def _put_all_simprints(self, index: IndexRow, key: Key, given: dict[str, Simprints], *, known: bool) -> None:
        before = self._stored_simprints(index, key) if known else {}
        after = {"s" + name: simprints.packed for name, simprints in given.items()}
        if after == before:
            return
        self.changed = True
        for name in after:
            self._named_type(index, name)
        if before:
            self._replace_codes(key, self._simprint_codes(index, before), self._simprint_codes(index, after))
        else:
            for name, packed in after.items():
                self._postings.add_simprints(self._prefix(index, name), Simprints(self._types[name].width, packed), key)
        for name in before.keys() | after.keys():
            self._put_simprints(index, key, name, after.get(name, b""), before.get(name, b""))

    def _put_simprints(self, index: IndexRow, key: Key, name: str, packed: bytes, before: bytes) -> None:
        place = u32(index.number) + key + u32(self._types[name].number)
        if packed:
            self._txn.put(place, packed, db=self._store.simprints)
        elif before:
            self._txn.delete(place, db=self._store.simprints)
        overhead = len(place)
        self._grown += (len(packed) + overhead if packed else 0) - (len(before) + overhead if before else 0)

    def _replace_codes(self, key: Key, before: set[bytes], after: set[bytes]) -> None:
        self._postings.add(after - before, key)
        if before:
            self._postings.remove(before - after, key)

    def _unit_codes(self, index: IndexRow, asset: StoredAsset) -> set[bytes]:
        """Keys in `postings`."""
        found: set[bytes] = set()
        for unit in units_of(asset):
            header = unit[:2]
            prefix = self._unit_prefixes.get(header)
            if prefix is None:
                prefix = self._unit_prefixes[header] = self._prefix(index, "u" + codes.unit_type(unit))
            found.add(prefix + codes.unit_body(unit))
        return found

    def _stored_simprints(self, index: IndexRow, key: Key) -> dict[str, bytes]:
        """The packed simprints of an asset by type name."""
        stored = asset_simprints(self._txn, self._store, index.number, key)
        if not stored:
            return {}
        names = {row.number: name for name, row in types_of(self._txn, self._store, index.number) if name.startswith("s")}
        for number in stored:
            self._named_type(index, names[number])
        return {names[number]: packed for number, packed in stored.items()}

    def _simprint_codes(self, index: IndexRow, packed: dict[str, bytes]) -> set[bytes]:
        result: set[bytes] = set()
        for name, found in packed.items():
            prefix = self._prefix(index, name)
            result.update([prefix + body for body in simprint_bodies(found, self._types[name].width)])
        return result

    def _require_widths(self, index: IndexRow, assets: list[Asset]) -> None:
        """The width of a simprint type is that of its first simprint; looked at before anything is stored."""
        widths: dict[str, int] = {}
        for position, asset in enumerate(assets):
            for name, simprints in (asset.simprints or {}).items():
                if name not in widths:
                    row = self._types.get("s" + name) or find_type(self._txn, self._store, index.number, "s" + name)
                    widths[name] = row.width if row else simprints.width
                if simprints.width != widths[name]:
                    raise Unfit(
                        f"simprint 0 of type {name} of asset '{codes.format_id(asset.realm, asset.key)}' has "
                        f"{simprints.width * 8} bits, the type has {widths[name] * 8}: send simprints of one width",
                        (position, "simprints", name, 0, "simprint"),
                    )
        for name, width in widths.items():
            self._named_type(index, "s" + name).width = width

    def _named_type(self, index: IndexRow, name: str) -> TypeRow:
        """The row of a type, which is made when it is not there; and known to the postings."""
        row = self._types.get(name)
        if row is None:
            row = find_type(self._txn, self._store, index.number, name) or TypeRow(self._next_type_number(index))
            self._types[name] = row
            self._prefixes[name] = self._postings.add_type(name, index.number, row)
        return row

    def _prefix(self, index: IndexRow, name: str) -> bytes:
        """What the codes of a type begin with."""
        prefix = self._prefixes.get(name)
        if prefix is None:
            self._named_type(index, name)
            prefix = self._prefixes[name]
        return prefix

    def _next_type_number(self, index: IndexRow) -> int:
        index.types += 1
        return index.types

    def _carry_out(self, index: IndexRow) -> None:
        self._grown += self._postings.carry_out(self._txn, self._store, self._columns, index.number)

    def _find_index(self, name: str) -> IndexRow:
        """The row whose counters go on until `finish`."""
        if self._index is None:
            self._index = name, find_index(self._txn, self._store, name)
        return self._index[1]

    def _end_request(self, index: IndexRow) -> None:
        self.changed = True
        if not self._waits:
            self.finish()
        elif self._postings.size >= PIECE_POSTINGS:
            self._carry_out(index)

    def finish(self) -> None:
        """What is left of the postings, and the counters, once for all requests that changed something."""
        if self._index is None or not self.changed:
            return
        name, index = self._index
        self._carry_out(index)
        for type_name, row in self._types.items():
            self._txn.put(u32(index.number) + type_name.encode(), encode(row), db=self._store.types)
        index.record_bytes += self._grown
        self._txn.put(name.encode(), encode(index), db=self._store.indexes)


def find_index(txn: Transaction, store: Store, name: str) -> IndexRow:
    """The row of an index, or NotFound."""
    value = txn.get(name.encode(), db=store.indexes) if _INDEX_NAME.fullmatch(name) else None
    if value is None:
        raise NotFound(f"Index '{name}' not found")
    return index_rows.decode(value)


def find_type(txn: Transaction, store: Store, index: int, name: str) -> TypeRow | None:
    """The row of a type, None when the index has none of that name. Names begin with their kind: `u` unit, `s` simprint."""
    value = txn.get(u32(index) + name.encode(), db=store.types)
    return type_rows.decode(value) if value is not None else None


def types_of(txn: Transaction, store: Store, index: int) -> Iterator[tuple[str, TypeRow]]:
    """All types of an index, named with their kind."""
    with txn.cursor(db=store.types) as cursor:
        for key, value in prefixed(cursor, u32(index)):
            yield key[4:].decode(), type_rows.decode(value)


def record_of(txn: Transaction, store: Store, index: int, key: Key) -> StoredAsset:
    """The record behind a posting. Both are written in one transaction, so it is there."""
    stored = txn.get(u32(index) + key, db=store.assets)
    if stored is None:
        raise Damaged(f"posting without a record index={index} key={key.hex()}: run `tidepool verify`")
    return records.decode(stored)


def asset_not_found(realm: int, key: Key) -> NotFound:
    """The error for an asset that is not there."""
    return NotFound(f"Asset '{codes.format_id(realm, key)}' not found in index")


def require_realm(index: IndexRow, realm: int, key: Key) -> None:
    """Assets are asked for and deleted in the realm of the index."""
    if index.realm >= 0 and index.realm != realm:
        raise Invalid(
            f"Realm mismatch: ISCC-ID '{codes.format_id(realm, key)}' has realm={realm}, but expected realm={index.realm}. "
            "Cannot query assets from different realm."
        )


def _require_same_realm(realm: int, asset: Asset) -> None:
    if asset.realm != realm:
        raise Invalid(
            f"Realm ID mismatch: index has realm={realm}, but asset '{codes.format_id(asset.realm, asset.key)}' has realm={asset.realm}. "
            "All assets in an index must have the same realm ID."
        )


def units_of(asset: StoredAsset) -> list[Raw]:
    """The units that an asset is found by: its own, or those of its code."""
    if asset.units is not None:
        return asset.units
    return codes.decompose(asset.code) if asset.code is not None else []
