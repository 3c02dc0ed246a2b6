"""What a file of unshipped rows says to send again: one who does so has what the writer had."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from service.api.access import Limits
from service.api.decode import decode_assets
from service.boot.commands import sending
from service.boot.commands.sending import BODY_BYTES, Outcome, bodies, entry, outcomes
from service.engine import codes
from service.engine.engine import Engine
from service.engine.errors import EngineError, NotFound
from service.engine.requests import AddAssets, Asset, CreateIndex, DeleteAsset, DeleteIndex, Query, Request, StoredAsset
from tests.engine.building import opened
from tests.system.entries import Entries, iscc_id
from tests.system.model import Entry

INDEX = "books"
IDS = [iscc_id(number, number % 2) for number in range(0, 12, 2)]
LIMITS = Limits()


def decoded(*entries: Entry, index: str = INDEX) -> AddAssets:
    """As a service reads them."""
    return decode_assets(index, json.dumps(entries).encode(), LIMITS)


def assets(*entries: Entry) -> Sequence[Asset]:
    return decoded(*entries).assets


def delete(number: str, index: str = INDEX) -> DeleteAsset:
    return DeleteAsset(index, *codes.parse_id(number))


def sent(outcome: Outcome) -> list[Request]:
    """What a service gets that is sent all of it."""
    return [
        *(decode_assets(INDEX, body, LIMITS) for body in bodies(outcome.adds)),
        *(delete(number) for number in outcome.deletes),
    ]


def test_an_asset_is_the_same_again() -> None:
    """Every part of it, and simprints that are left out stay left out."""
    source = Entries(1)
    for at in range(300):
        (asset,) = assets(source.entry(iscc_id(at)))
        assert assets(json.loads(msgspec.json.encode(entry(asset)))) == [asset]
    given = [source.entry(iscc_id(at)) for at in range(300)]
    assert {"simprints" in each for each in given} == {True, False}
    assert [each.get("simprints") for each in json.loads(msgspec.json.encode([entry(a) for a in assets(*given)]))] == [
        each.get("simprints") for each in given
    ]


def test_metadata_is_kept_as_it_was_sent() -> None:
    """But for the breaks of its lines, which would break a body in two."""
    text = '{"a":\r\n [1.50,  "x\\ny"],\n"b": 10000000000000000000000}'
    asset = decode_assets(INDEX, f'[{{"iscc_id":"{IDS[0]}","metadata":{text}}}]'.encode(), LIMITS).assets[0]
    assert entry(asset).metadata == msgspec.Raw(text.encode())
    (body,) = bodies([entry(asset)])
    (again,) = decode_assets(INDEX, body, LIMITS).assets
    assert again.metadata == text.replace("\r", " ").replace("\n", " ").encode()


@pytest.mark.parametrize("seed", range(12))
def test_the_outcome_is_that_of_all_requests(tmp_path: Path, seed: int) -> None:
    """On an index that has what both had before: adds, updates, deletes, and adds after deletes, in any order."""
    chance, source = random.Random(seed), Entries(seed)
    before: list[Request] = [CreateIndex(INDEX), decoded(*(source.entry(number) for number in IDS[:4]))]
    requests = [
        delete(chance.choice(IDS))
        if chance.random() < 0.3
        else decoded(*(source.entry(number) for number in chance.choices(IDS, k=chance.randint(1, 3))))
        for _ in range(chance.randint(1, 12))
    ]
    with opened(tmp_path / "old") as old, opened(tmp_path / "new") as new:
        done = [request for request in requests if carried_out(old, before, request)]
        for request in (*before, *sent(outcomes(done).get(INDEX, Outcome([], [])))):
            new.commit([request])
        assert state(new) == state(old)


def carried_out(engine: Engine, before: list[Request], request: Request) -> bool:
    """Those that were refused are in no log."""
    if not engine.indexes():
        engine.commit(before)
    (answer,) = engine.commit([request])
    return not isinstance(answer, EngineError)


def state(engine: Engine) -> dict[str, tuple[StoredAsset, object]]:
    """By ISCC-ID the asset and its simprints."""
    found: dict[str, tuple[StoredAsset, object]] = {}
    for number in IDS:
        realm, key = codes.parse_id(number)
        try:
            asset = engine.asset(INDEX, realm, key)
        except NotFound:
            continue
        found[number] = (asset, engine.search(INDEX, Query([], {}, realm, key), 10).simprints)
    return found


def test_a_drop() -> None:
    """Takes away what was there; what came afterwards is left, and other indexes are not touched."""
    source = Entries(2)
    first, second, third = (source.entry(number) for number in IDS[:3])
    found = outcomes(
        [decoded(first), delete(IDS[4]), decoded(third, index="other"), DeleteIndex(INDEX), CreateIndex(INDEX), decoded(second)]
    )
    assert [each.iscc_id for each in found[INDEX].adds] == [second["iscc_id"]]
    assert found[INDEX].deletes == []
    assert [each.iscc_id for each in found["other"].adds] == [third["iscc_id"]]


def test_bodies_are_not_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the defaults of a service; in order and with nothing left out. One large asset is a body of its own."""
    entries = [entry(asset) for asset in assets(*({"iscc_id": iscc_id(at), "metadata": {"x": "y" * 900_000}} for at in range(5)))]
    found = list(bodies(entries))
    assert [len(json.loads(body)) for body in found] == [1] * 5
    small = [entry(asset) for asset in assets(*({"iscc_id": iscc_id(at)} for at in range(1000)))]
    monkeypatch.setattr(sending, "ASSETS_MAX", 300)
    found = list(bodies(small))
    assert [len(json.loads(body)) for body in found] == [300, 300, 300, 100]
    assert [each["iscc_id"] for body in found for each in json.loads(body)] == [each.iscc_id for each in small]
    assert sending.BODY_BYTES + LIMITS.max_metadata_bytes < LIMITS.max_body_bytes
    assert all(len(body) <= BODY_BYTES + 2000 for body in found)
    assert list(bodies([])) == []
