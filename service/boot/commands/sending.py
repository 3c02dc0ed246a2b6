"""What rows did to an index, all in all, in the shapes that the interface takes: to be sent again to whoever has the data now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import UNSET, Raw, UnsetType

from service.api.schema import IsccSimprint
from service.engine import codes
from service.engine.layout import unpack_simprints
from service.engine.requests import AddAssets, Asset, CreateIndex, DeleteAsset, DeleteIndex, Request, Simprints

ASSETS_MAX = 1000
BODY_BYTES = 1 << 20
"""Of one body, as long as it has more than one asset: less than any service refuses by default."""
_ONE_LINE = bytes.maketrans(b"\r\n", b"  ")
"""Metadata is kept as it was sent. What breaks a line in it is a blank between members, never part of a text."""


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """An asset as an add takes it. Without `simprints` those that are stored stay."""

    iscc_id: str
    iscc_code: str | None = None
    units: list[str] | None = None
    simprints: dict[str, list[IsccSimprint]] | UnsetType = UNSET
    metadata: Raw | None = None


class Outcome(msgspec.Struct, frozen=True):
    """Of one index. No asset is in both."""

    adds: list[Entry]
    deletes: list[str]


def entry(asset: Asset) -> Entry:
    """`service.api.decode` makes the same asset of it."""
    return Entry(
        codes.format_id(asset.realm, asset.key),
        None if asset.code is None else codes.encode(asset.code),
        None if asset.units is None else [codes.encode(unit) for unit in asset.units],
        UNSET if asset.simprints is None else {name: _chunks(found) for name, found in asset.simprints.items()},
        None if asset.metadata is None else Raw(asset.metadata),
    )


def outcomes(requests: Iterable[Request]) -> dict[str, Outcome]:
    """By index. What a drop took away is not in it; the drop itself is for a person to repeat."""
    found: dict[str, dict[str, Entry | None]] = {}
    for request in requests:
        match request:
            case CreateIndex() | DeleteIndex():
                found[request.name] = {}
            case AddAssets():
                index = found.setdefault(request.index, {})
                for asset in {asset.key: asset for asset in request.assets}.values():  # of two in one request the last counts
                    _put(index, entry(asset))
            case DeleteAsset():
                found.setdefault(request.index, {})[codes.format_id(request.realm, request.key)] = None
    return {name: _outcome(index) for name, index in found.items()}


def bodies(entries: Iterable[Entry]) -> Iterator[bytes]:
    """For `POST /indexes/{name}/assets`, each in one line."""
    taken: list[bytes] = []
    left = BODY_BYTES
    for each in entries:
        body = msgspec.json.encode(each).translate(_ONE_LINE)
        if taken and (len(taken) >= ASSETS_MAX or len(body) > left):
            yield _list(taken)
            taken, left = [], BODY_BYTES
        taken.append(body)
        left -= len(body)
    if taken:
        yield _list(taken)


def _put(index: dict[str, Entry | None], new: Entry) -> None:
    """An add replaces all but simprints that it leaves out. After a delete there are none: whoever has the data may not have deleted it."""
    if new.simprints is UNSET and new.iscc_id in index:
        before = index[new.iscc_id]
        new = msgspec.structs.replace(new, simprints={} if before is None else before.simprints)
    index[new.iscc_id] = new


def _outcome(index: dict[str, Entry | None]) -> Outcome:
    return Outcome([each for each in index.values() if each is not None], [number for number, each in index.items() if each is None])


def _chunks(found: Simprints) -> list[IsccSimprint]:
    return [IsccSimprint(codes.format_simprint(each.body), each.offset, each.size) for each in unpack_simprints(found.packed, found.width)]


def _list(taken: list[bytes]) -> bytes:
    return b"[" + b",".join(taken) + b"]"
