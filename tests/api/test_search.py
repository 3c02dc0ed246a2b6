"""Routes of search: what is echoed, what is found, what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.isccs import CONTENT, DATA, META, code, iscc_id, simprint, unit, units

LIMIT = "expected 1 to 1000, the highest is ISCC_SEARCH_MAX_LIMIT"


def add(http: httpx.Client, index: str, *entries: dict[str, Any]) -> None:
    assert http.post(f"{index}/assets", json=list(entries)).status_code == 201


def found(http: httpx.Client, index: str, query: dict[str, Any], limit: int = 100) -> list[str]:
    answer = http.post(f"{index}/search", params={"limit": limit}, json=query)
    assert answer.status_code == 200, answer.text
    return [match["iscc_id"] for match in answer.json()["global_matches"]]


def test_units_are_echoed_with_the_code_they_make(http: httpx.Client, index: str) -> None:
    """The echo has what was sent and the code that follows from it; all three members are always there."""
    answer = http.post(f"{index}/search", json={"units": units(1), "unknown": 1}).json()
    assert answer == {"query": {"units": units(1), "iscc_code": code(1)}, "global_matches": [], "chunk_matches": []}


def test_code_is_echoed_with_its_units(http: httpx.Client, index: str) -> None:
    """The same by POST and by GET."""
    posted = http.post(f"{index}/search", json={"iscc_code": code(1)}).json()["query"]
    asked = http.get(f"{index}/search", params={"iscc_code": code(1)}).json()["query"]
    assert posted == asked == {"iscc_code": code(1), "units": units(1)}


def test_both_are_echoed_as_they_are(http: httpx.Client, index: str) -> None:
    """With units and code, only the units are searched for and neither is changed."""
    add(http, index, {"iscc_id": iscc_id(1), "units": units(1)}, {"iscc_id": iscc_id(2), "units": units(2)})
    query = {"units": units(1), "iscc_code": code(2)}
    answer = http.post(f"{index}/search", json=query).json()
    assert answer["query"] == query
    assert [match["iscc_id"] for match in answer["global_matches"]] == [iscc_id(1)]


def test_nulls_that_were_sent_are_echoed(http: httpx.Client, index: str) -> None:
    """An explicit null stays, unless the member follows from another; what makes no code adds none."""
    sent = {"iscc_id": None, "simprints": None, "iscc_code": None, "units": [unit(META, 1), unit(CONTENT, 1)]}
    assert http.post(f"{index}/search", json=sent).json()["query"] == sent
    assert http.post(f"{index}/search", json={"units": sent["units"]}).json()["query"] == {"units": sent["units"]}


def test_simprints_alone_are_a_query(http: httpx.Client, index: str) -> None:
    """Simprints are echoed as they were sent."""
    query = {"simprints": {"T": [simprint(1)]}}
    answer = http.post(f"{index}/search", json=query).json()
    assert (answer["query"], answer["global_matches"]) == (query, [])


@pytest.mark.parametrize("stored", [{"units": units(1)}, {"iscc_code": code(1)}, {"units": units(1), "iscc_code": code(1)}])
def test_a_search_by_id_echoes_what_is_stored(http: httpx.Client, index: str, stored: dict[str, Any]) -> None:
    """Exactly code, units and simprints, each possibly null, and no ISCC-ID; the asset itself is left out."""
    add(http, index, {"iscc_id": iscc_id(1), **stored}, {"iscc_id": iscc_id(2), "units": units(1)})
    answer = http.post(f"{index}/search", json={"iscc_id": iscc_id(1), "units": ["ignored"]}).json()
    assert answer["query"] == {"iscc_code": code(1), "units": units(1), "simprints": None}
    assert [match["iscc_id"] for match in answer["global_matches"]] == [iscc_id(2)]


def test_a_search_by_id_returns_as_many_as_asked(http: httpx.Client, index: str) -> None:
    """The asset itself takes no place in the limit."""
    add(http, index, *({"iscc_id": iscc_id(n), "units": units(1)} for n in range(5)))
    assert found(http, index, {"iscc_id": iscc_id(2)}, limit=3) == [iscc_id(n) for n in (0, 1, 3)]


def test_an_asset_without_content_cannot_be_searched_from(http: httpx.Client, index: str) -> None:
    """A bare asset gives the same answer as an empty query."""
    add(http, index, {"iscc_id": iscc_id(1), "metadata": {"a": 1}})
    expected = {"detail": "Query must have 'iscc_code', 'units', or 'simprints' for search"}
    queries: list[dict[str, Any]] = [{"iscc_id": iscc_id(1)}, {}, {"simprints": {}}, {"units": None, "iscc_code": None}]
    for query in queries:
        answer = http.post(f"{index}/search", json=query)
        assert (answer.status_code, answer.json()) == (400, expected)


def test_searches_from_unknown_assets_and_realms(http: httpx.Client, index: str) -> None:
    """404 for an unknown asset, 400 for another realm, 404 for an unknown index."""
    add(http, index, {"iscc_id": iscc_id(1), "units": units(1)})
    unknown = http.post(f"{index}/search", json={"iscc_id": iscc_id(2)})
    assert (unknown.status_code, unknown.json()) == (404, {"detail": f"Asset '{iscc_id(2)}' not found in index"})
    foreign = http.post(f"{index}/search", json={"iscc_id": iscc_id(1, realm=1)})
    assert foreign.status_code == 400
    assert "expected realm=0" in foreign.json()["detail"]
    absent = http.post("/indexes/absent/search", json={"units": units(1)})
    assert (absent.status_code, absent.json()) == (404, {"detail": "Index 'absent' not found"})


def test_an_asset_with_only_a_code_is_found(http: httpx.Client, index: str) -> None:
    """The code is taken apart when it is added; the match has a score for every unit type."""
    add(http, index, {"iscc_id": iscc_id(1), "iscc_code": code(1)})
    match = http.post(f"{index}/search", json={"units": units(1)}).json()["global_matches"][0]
    assert match == {
        "iscc_id": iscc_id(1),
        "score": 1.0,
        "types": {"META_NONE_V0": 1.0, "CONTENT_TEXT_V0": 1.0, "DATA_NONE_V0": 1.0, "INSTANCE_NONE_V0": 1.0},
        "metadata": None,
    }


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (None, None),
        ({}, None),
        ({"name": "x", "source": "https://example.org/a"}, {"name": "x", "source": "https://example.org/a"}),
        ({"name": 5, "source": "not a url", "kept": [1]}, {"kept": [1]}),
        ({"source": "../x"}, None),
        ({"name": None, "source": None}, {"name": None, "source": None}),
    ],
)
def test_metadata_never_breaks_a_search(http: httpx.Client, index: str, stored: object, shown: object) -> None:
    """In a match, members that clients refuse are left out; the stored asset keeps them."""
    add(http, index, {"iscc_id": iscc_id(1), "units": units(1), "metadata": stored})
    match = http.post(f"{index}/search", json={"units": units(1)}).json()["global_matches"][0]
    assert match["metadata"] == shown
    assert http.get(f"{index}/assets/{iscc_id(1)}").json().get("metadata") == stored


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("1.0", 1), ("+2", 2), (" 2", 2), ("3.", 3), ("007", 3), ("3&limit=2", 2)])
def test_limits_that_are_accepted(http: httpx.Client, index: str, text: str, count: int) -> None:
    """Whole numbers however they are written; the last one counts."""
    add(http, index, *({"iscc_id": iscc_id(n), "units": units(1)} for n in range(3)))
    answer = http.get(f"{index}/search?iscc_code={code(1)}&limit={text.replace('+', '%2B')}")
    assert len(answer.json()["global_matches"]) == count


@pytest.mark.parametrize("text", ["", "x", "1.5", "1e1", "1_0", "٣", "0x1", "NaN"])
def test_limits_that_are_no_numbers(http: httpx.Client, index: str, text: str) -> None:
    """422 with the place."""
    answer = http.post(f"{index}/search", params={"limit": text}, json={"units": units(1)})
    assert answer.status_code == 422
    expected = {"loc": ["query", "limit"], "msg": "expected a whole number from 1 to 1000", "type": "int_parsing"}
    assert answer.json() == {"detail": [expected]}


@pytest.mark.parametrize("text", ["0", "-1", "1001", "1000000000000", "9" * 5000])
def test_limits_out_of_range(http: httpx.Client, index: str, text: str) -> None:
    """422 that names the limit and the setting."""
    answer = http.post(f"{index}/search", params={"limit": text}, json={"units": units(1)})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["msg"] == f"limit is out of range: {LIMIT}"


@pytest.mark.parametrize(
    ("query", "loc"),
    [
        ({"units": []}, ["units"]),
        ({"units": "x"}, ["units"]),
        ({"units": [unit(DATA, 1), "ISCC:GAA"]}, ["units", 1]),
        ({"units": [unit(DATA, n) for n in range(65)]}, ["units"]),
        ({"iscc_code": "ISCC:AAAAAAAAAAAAAAAA"}, ["iscc_code"]),
        ({"iscc_id": "x"}, ["iscc_id"]),
        ({"simprints": {"A": [simprint(1)], "T": []}}, ["simprints", "T"]),
        ({"simprints": {"A": [simprint(1)], "T": ["*"]}}, ["simprints", "T", 0]),
        ({"simprints": {"T": ["AAAA"]}}, ["simprints", "T", 0]),
        ({"simprints": {"T": [simprint(1), simprint(1, 16)]}}, ["simprints", "T", 1]),
        ({"simprints": {"T": [simprint(n) for n in range(21)]}}, ["simprints"]),
        ({"simprints": {"": [simprint(1)]}}, ["simprints", ""]),
    ],
)
def test_a_wrong_query_says_where(http: httpx.Client, index: str, query: dict[str, Any], loc: list[str | int]) -> None:
    """422 with the place of the fault."""
    answer = http.post(f"{index}/search", json=query)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", *loc]


def test_a_bad_code_in_the_query_string_is_a_400(http: httpx.Client, index: str) -> None:
    """GET tells it in one sentence; a missing code is a 422."""
    answer = http.get(f"{index}/search", params={"iscc_code": "ISCC:AAAA"})
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith("iscc_code: ")
    missing = http.get(f"{index}/search")
    assert missing.json()["detail"][0]["loc"] == ["query", "iscc_code"]
    assert missing.status_code == 422


def test_ties_stand_in_the_order_of_ids(http: httpx.Client, index: str) -> None:
    """Equal scores are sorted by ISCC-ID, whatever the order of adding."""
    add(http, index, *({"iscc_id": iscc_id(n), "units": units(1)} for n in (3, 1, 2)))
    assert found(http, index, {"units": units(1)}) == [iscc_id(n) for n in (1, 2, 3)]


def test_matching_chunks_are_shown_with_their_places(http: httpx.Client, index: str) -> None:
    """A chunk match has the asset, its source and, for each simprint of the query that matched, where it stands."""
    chunks = [{"simprint": simprint(n, 16), "offset": n * 10, "size": 10} for n in range(3)]
    source = {"name": "a text", "source": "https://example.org/text"}
    add(http, index, {"iscc_id": iscc_id(1), "simprints": {"CONTENT_TEXT_V0": chunks}, "metadata": source})
    query = {"simprints": {"CONTENT_TEXT_V0": [simprint(2, 16), simprint(9, 16)]}}
    answer = http.post(f"{index}/search", json=query).json()
    assert (answer["query"], answer["global_matches"]) == (query, [])
    (match,) = answer["chunk_matches"]
    found = match["types"]["CONTENT_TEXT_V0"]
    assert match | {"types": {}, "score": 0} == {
        "iscc_id": iscc_id(1),
        "score": 0,
        "types": {},
        "source": "https://example.org/text",
        "metadata": source,
    }
    assert 0 < match["score"] == found["score"] < 1
    assert (found["matches"], found["queried"]) == (1, 2)
    text = simprint(2, 16)
    assert found["chunks"] == [{"query": text, "match": text, "score": 1.0, "freq": 1, "offset": 20, "size": 10, "content": None}]


def test_a_search_by_id_uses_the_simprints_of_the_asset(http: httpx.Client, index: str) -> None:
    """The echo shows them, and assets that share a chunk are found."""
    chunk = {"T": [{"simprint": simprint(1, 16), "offset": 0, "size": 1}]}
    add(http, index, {"iscc_id": iscc_id(1), "simprints": chunk}, {"iscc_id": iscc_id(2), "simprints": chunk})
    answer = http.post(f"{index}/search", json={"iscc_id": iscc_id(1)}).json()
    assert answer["query"] == {"iscc_code": None, "units": None, "simprints": {"T": [simprint(1, 16)]}}
    assert [match["iscc_id"] for match in answer["chunk_matches"]] == [iscc_id(2)]


def test_exact_takes_identical_simprints_only(http: httpx.Client, index: str) -> None:
    """A boolean in the query string; anything else is refused by name."""
    chunk = {"simprint": simprint(1), "offset": 3, "size": 4}
    near = simprint(1)[:-1] + ("A" if simprint(1)[-1] != "A" else "E")
    add(http, index, {"iscc_id": iscc_id(1), "simprints": {"T": [chunk]}})
    query = {"simprints": {"T": [near]}}
    assert len(http.post(f"{index}/search", json=query).json()["chunk_matches"]) == 1
    assert http.post(f"{index}/search?exact=true", json=query).json()["chunk_matches"] == []
    refused = http.post(f"{index}/search?exact=maybe", json=query)
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "exact"])


def test_simprint_of_another_width_than_its_type_is_refused(http: httpx.Client, index: str) -> None:
    """In a query and on add, with both widths and the element named and nothing stored."""
    add(http, index, {"iscc_id": iscc_id(1), "simprints": {"T": [{"simprint": simprint(1), "offset": 0, "size": 1}]}})
    wide = "A" * 43
    refused = http.post(f"{index}/search", json={"simprints": {"T": [wide]}})
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["body", "simprints", "T", 0])
    entry = {"iscc_id": iscc_id(2), "simprints": {"T": [{"simprint": wide, "offset": 0, "size": 1}]}}
    assert http.post(f"{index}/assets", json=[entry]).status_code == 422
    assert http.get(f"{index}/assets/{iscc_id(2)}").status_code == 404
