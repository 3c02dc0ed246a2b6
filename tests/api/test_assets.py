"""Routes of assets."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.api.isccs import INSTANCE, META, code, iscc_id, simprint, unit, units


def problem(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 422, answer.text
    found: dict[str, Any] = answer.json()["detail"][0]
    return found


def test_results_stand_in_the_order_of_the_request(http: httpx.Client, index: str) -> None:
    """One result for each element, `updated` for an id that was there or came earlier in the same request."""
    ids = [iscc_id(2), iscc_id(1), iscc_id(2)]
    answer = http.post(f"{index}/assets", json=[{"iscc_id": found, "units": units(n)} for n, found in enumerate(ids)])
    assert answer.status_code == 201
    assert answer.json() == [
        {"iscc_id": ids[0], "status": "created"},
        {"iscc_id": ids[1], "status": "created"},
        {"iscc_id": ids[2], "status": "updated"},
    ]
    assert http.get(f"{index}/assets/{ids[2]}").json()["units"] == units(2)


def test_read_back_has_what_was_sent_without_simprints(http: httpx.Client, index: str) -> None:
    """No nulls, no simprints, metadata byte for byte."""
    metadata = '{"name": "x",  "deep": {"null": null, "n": 1.50}, "big": 12345678901234567}'
    chunks = {"T": [{"simprint": simprint(1), "offset": 0, "size": 1}]}
    rest = f'"units":{json.dumps(units(1))},"simprints":{json.dumps(chunks)},"metadata":{metadata}'
    text = f'[{{"iscc_id":"{iscc_id(1)}","iscc_code":null,{rest}}}]'
    assert http.post(f"{index}/assets", content=text, headers={"content-type": "application/json"}).status_code == 201
    answer = http.get(f"{index}/assets/{iscc_id(1)}")
    assert answer.json().keys() == {"iscc_id", "units", "metadata"}
    assert f'"metadata":{metadata}' in answer.text


def test_empty_metadata_is_kept(http: httpx.Client, index: str) -> None:
    """`{}` is read back as `{}`."""
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(1), "units": units(1), "metadata": {}}])
    assert http.get(f"{index}/assets/{iscc_id(1)}").json()["metadata"] == {}


def test_nan_in_metadata_reads_back_as_null(http: httpx.Client, index: str) -> None:
    """What JSON does not have but clients send becomes null; texts with these words stay."""
    body = f'[{{"iscc_id":"{iscc_id(1)}","metadata":{{"a":NaN,"b":[-Infinity],"c":"NaN"}}}}]'
    assert http.post(f"{index}/assets", content=body, headers={"content-type": "application/json"}).status_code == 201
    assert http.get(f"{index}/assets/{iscc_id(1)}").json()["metadata"] == {"a": None, "b": [None], "c": "NaN"}


def test_an_update_replaces_wholly(http: httpx.Client, index: str) -> None:
    """A member that is left out of an update is gone."""
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(1), "units": units(1), "metadata": {"a": 1}}])
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(1), "iscc_code": code(2)}])
    assert http.get(f"{index}/assets/{iscc_id(1)}").json() == {"iscc_id": iscc_id(1), "iscc_code": code(2)}


def test_an_empty_add_needs_an_index(http: httpx.Client, index: str) -> None:
    """`[]` is answered with `[]`, but not for an index that is not there."""
    answer = http.post(f"{index}/assets", json=[])
    assert (answer.status_code, answer.json()) == (201, [])
    assert http.post("/indexes/absent/assets", json=[]).json() == {"detail": "Index 'absent' not found"}


def test_get_folds_case_of_the_digits_only(http: httpx.Client, index: str) -> None:
    """The base32 part may be in lower case and the colon escaped; the prefix is upper case."""
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(1), "units": units(1)}])
    assert http.get(f"{index}/assets/ISCC:{iscc_id(1)[5:].lower()}").json()["iscc_id"] == iscc_id(1)
    assert http.get(f"{index}/assets/ISCC%3A{iscc_id(1)[5:]}").status_code == 200
    refused = http.get(f"{index}/assets/iscc:{iscc_id(1)[5:]}")
    assert refused.json() == {"detail": f"Invalid ISCC-ID format: 'iscc:{iscc_id(1)[5:]}' (must start with 'ISCC:')"}


def test_delete_removes_from_search_and_get(http: httpx.Client, index: str) -> None:
    """204 once, then 404; no search finds the asset."""
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(n), "units": units(1)} for n in (1, 2)])
    assert http.delete(f"{index}/assets/{iscc_id(1)}").status_code == 204
    expected = {"detail": f"Asset '{iscc_id(1)}' not found in index"}
    for method in ("GET", "DELETE"):
        answer = http.request(method, f"{index}/assets/{iscc_id(1)}")
        assert (answer.status_code, answer.json()) == (404, expected)
    found = http.post(f"{index}/search", json={"units": units(1)}).json()["global_matches"]
    assert [match["iscc_id"] for match in found] == [iscc_id(2)]


def test_simprints_of_another_width_are_refused_before_anything_is_stored(http: httpx.Client, index: str) -> None:
    """A simprint type has one width; a request that breaks it stores nothing."""
    chunk = {"offset": 0, "size": 1}
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(1), "simprints": {"T": [{"simprint": simprint(1, 8), **chunk}]}}])
    wider = {"T": [{"simprint": simprint(1, 16), **chunk}]}
    answer = http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(2)}, {"iscc_id": iscc_id(3), "simprints": wider}])
    assert answer.status_code == 422
    (problem,) = answer.json()["detail"]
    assert "128 bits" in problem["msg"]
    assert problem["loc"] == ["body", 1, "simprints", "T", 0, "simprint"]
    assert http.get(f"{index}/assets/{iscc_id(2)}").status_code == 404


@pytest.mark.parametrize(
    ("entry", "loc"),
    [
        ({"units": [units(1)[0]]}, ["units"]),
        ({"units": [units(1)[0], 5]}, ["units", 1]),
        ({"units": [units(1)[0], "ISCC:AAAA"]}, ["units", 1]),
        ({"units": [units(1)[0], iscc_id(1)]}, ["units", 1]),
        ({"units": [units(1)[0], units(1)[1].lower()]}, ["units", 1]),
        ({"units": [units(1)[0], code(1)]}, ["units", 1]),
        ({"units": [unit(META, n) for n in range(65)]}, ["units"]),
        ({"iscc_code": "ISCC:" + "A" * 16}, ["iscc_code"]),
        ({"iscc_code": code(1)[:-1]}, ["iscc_code"]),
        ({"iscc_code": code(1).lower()}, ["iscc_code"]),
        ({"iscc_code": iscc_id(1)}, ["iscc_code"]),
        ({"iscc_id": "MAIGBISBQHSAAEAB"}, ["iscc_id"]),
        ({"iscc_id": 5}, ["iscc_id"]),
        ({"metadata": [1]}, ["metadata"]),
        ({"metadata": "x"}, ["metadata"]),
        ({"simprints": {"T": []}}, ["simprints", "T"]),
        (
            {"simprints": {"A": [{"simprint": simprint(1), "offset": 0, "size": 0}], "T": [{"simprint": simprint(1), "offset": 0}]}},
            ["simprints", "T", 0],
        ),
        ({"simprints": {"T": [{"simprint": simprint(1), "offset": -1, "size": 0}]}}, ["simprints", "T", 0, "offset"]),
        ({"simprints": {"T": [{"simprint": simprint(1), "offset": 0, "size": 1 << 32}]}}, ["simprints", "T", 0, "size"]),
        ({"simprints": {"T": [{"simprint": simprint(1), "offset": "0", "size": 1}]}}, ["simprints", "T", 0, "offset"]),
        ({"simprints": {"T": [{"simprint": "AAAAAAAAAAAAA", "offset": 0, "size": 1}]}}, ["simprints", "T", 0, "simprint"]),
        ({"simprints": {"../T": [{"simprint": simprint(1), "offset": 0, "size": 1}]}}, ["simprints", "../T"]),
        ({"simprints": {"T": [{"simprint": simprint(n), "offset": 0, "size": 1} for n in range(41)]}}, ["simprints"]),
    ],
)
def test_a_wrong_element_is_named(http: httpx.Client, index: str, entry: dict[str, Any], loc: list[str | int]) -> None:
    """The answer says which element of the batch is wrong and where; nothing of the request is stored."""
    good = {"iscc_id": iscc_id(1), "units": units(1)}
    answer = http.post(f"{index}/assets", json=[good, {"iscc_id": iscc_id(2), **entry}])
    assert problem(answer)["loc"] == ["body", 1, *loc]
    assert problem(answer)["msg"]
    assert http.get(index).json()["assets"] == 0


def test_all_wrong_elements_are_reported_together(http: httpx.Client, index: str) -> None:
    """One attempt shows every wrong element, up to twenty."""
    wrong = {"iscc_id": iscc_id(1), "iscc_code": "ISCC:" + "A" * 16}
    answer = http.post(f"{index}/assets", json=[wrong] * 30)
    assert [found["loc"][1] for found in answer.json()["detail"]] == list(range(20))


@pytest.mark.parametrize(
    ("given", "detail"),
    [
        (None, "Asset must have iscc_id field when adding to index"),
        ("ISCC:MIIGBISBQHSAAEAB", "Invalid ISCC-ID realm: 2 (expected 0 or 1)"),
        ("ISCC:MAAGBISBQHSAAEAB", "Invalid ISCC-ID version: 0 (expected 1)"),
        ("ISCC:AAAGBISBQHSAAEAB", "Invalid ISCC-ID main type: 0 (expected 6)"),
    ],
)
def test_a_header_that_is_no_iscc_id_is_a_400(http: httpx.Client, index: str, given: str | None, detail: str) -> None:
    """Problems of the ISCC-ID itself are told in one sentence."""
    answer = http.post(f"{index}/assets", json=[{"iscc_id": given, "units": units(1)}])
    assert (answer.status_code, answer.json()) == (400, {"detail": detail})


def test_another_realm_is_refused(http: httpx.Client, index: str) -> None:
    """The first asset decides the realm of an index, for adds and for reads."""
    first, other = iscc_id(1), iscc_id(2, realm=1)
    http.post(f"{index}/assets", json=[{"iscc_id": first, "units": units(1)}])
    added = http.post(f"{index}/assets", json=[{"iscc_id": other, "units": units(1)}])
    assert added.status_code == 400
    assert added.json()["detail"] == (
        f"Realm ID mismatch: index has realm=0, but asset '{other}' has realm=1. All assets in an index must have the same realm ID."
    )
    read = http.get(f"{index}/assets/{other}")
    assert read.status_code == 400
    assert read.json()["detail"] == (
        f"Realm mismatch: ISCC-ID '{other}' has realm=1, but expected realm=0. Cannot query assets from different realm."
    )


def test_too_many_assets_are_refused(http: httpx.Client, index: str) -> None:
    """The answer names the limit and the setting."""
    answer = http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(n)} for n in range(51)])
    assert problem(answer)["loc"] == ["body"]
    assert "at most 50" in problem(answer)["msg"]
    assert "ISCC_SEARCH_MAX_ASSETS" in problem(answer)["msg"]


def test_an_instance_alone_is_found(http: httpx.Client, index: str) -> None:
    """Units of any length the standard has are accepted together."""
    entry = {"iscc_id": iscc_id(1), "units": [unit(INSTANCE, 1, 256), unit(META, 1, 192), unit(META, 2, 128)]}
    assert http.post(f"{index}/assets", json=[entry]).status_code == 201
    found = http.post(f"{index}/search", json={"units": [unit(INSTANCE, 1, 64)]}).json()["global_matches"]
    assert [match["types"] for match in found] == [{"INSTANCE_NONE_V0": 1.0}]
