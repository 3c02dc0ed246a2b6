"""Routes of indexes."""

from __future__ import annotations

import httpx
import pytest

from tests.api.isccs import iscc_id, simprint, units


def test_create_answers_counters_without_sizes(http: httpx.Client) -> None:
    """A new index is answered with name, assets and size, and nothing else."""
    answer = http.post("/indexes", json={"name": "fresh"})
    assert (answer.status_code, answer.json()) == (201, {"name": "fresh", "assets": 0, "size": 0})


def test_create_twice_conflicts(http: httpx.Client) -> None:
    """A taken name is a 409 that names it."""
    http.post("/indexes", json={"name": "taken"})
    answer = http.post("/indexes", json={"name": "taken"})
    assert (answer.status_code, answer.json()) == (409, {"detail": "Index 'taken' already exists"})


@pytest.mark.parametrize("name", ["", "Photos", "1a", "a-b", "a" * 33, "a/b", "..", "ä", "a\n", "a b"])
def test_create_refuses_bad_names(http: httpx.Client, name: str) -> None:
    """Names are a lower-case letter, then letters and digits, 32 at most; the place of the fault is told."""
    answer = http.post("/indexes", json={"name": name})
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"] == ["body", "name"]


@pytest.mark.parametrize(
    ("name", "extra"), [("one", {"assets": 3}), ("two", {"sizes": {"lmdb": 2}}), ("three", {"size": None}), ("four", {"color": "red"})]
)
def test_create_ignores_what_it_cannot_be_told(http: httpx.Client, name: str, extra: dict[str, object]) -> None:
    """Counters and unknown members in the request change nothing."""
    assert http.post("/indexes", json={"name": name, **extra}).json() == {"name": name, "assets": 0, "size": 0}


def test_create_refuses_a_negative_count(http: httpx.Client) -> None:
    """Ignored members still have their types."""
    answer = http.post("/indexes", json={"name": "negative", "assets": -1})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", "assets"]


def test_get_shows_sizes_for_each_type(http: httpx.Client, index: str) -> None:
    """Sizes have one key for the records, for each unit type and for each simprint type."""
    entry = {"iscc_id": iscc_id(1), "units": units(1), "simprints": {"TEXT": [{"simprint": simprint(1), "offset": 0, "size": 9}]}}
    assert http.post(f"{index}/assets", json=[entry]).status_code == 201
    found = http.get(index).json()
    assert found["assets"] == 1
    assert found["size"] == 0
    assert found["sizes"].keys() == {"lmdb", "META_NONE_V0", "CONTENT_TEXT_V0", "DATA_NONE_V0", "INSTANCE_NONE_V0", "SIMPRINT_TEXT"}


def test_list_is_sorted_by_name(http: httpx.Client) -> None:
    """The list has every index once, in the order of names, each as `get` shows it."""
    for name in ("zz", "aa", "mm"):
        http.post("/indexes", json={"name": name})
    listed = http.get("/indexes").json()
    names = [found["name"] for found in listed]
    assert names == sorted(names)
    assert {"aa", "mm", "zz"} <= set(names)
    assert next(found for found in listed if found["name"] == "aa") == http.get("/indexes/aa").json()


def test_delete_frees_the_name(http: httpx.Client, index: str) -> None:
    """After a delete the index is unknown, and the name can be taken again, empty."""
    http.post(f"{index}/assets", json=[{"iscc_id": iscc_id(1), "units": units(1)}])
    deleted = http.delete(index)
    assert (deleted.status_code, deleted.content, deleted.headers["content-type"]) == (204, b"", "application/json")
    name = index.rpartition("/")[2]
    assert http.get(index).json() == {"detail": f"Index '{name}' not found"}
    assert http.delete(index).status_code == 404
    assert http.post("/indexes", json={"name": name}).status_code == 201
    assert http.get(index).json()["assets"] == 0
    assert http.get(f"{index}/assets/{iscc_id(1)}").status_code == 404


@pytest.mark.parametrize("name", ["absent", "ABSENT", "a.b", "..", "%2E%2E", "a%00b", "x" * 600])
def test_unknown_names_are_not_found(http: httpx.Client, name: str) -> None:
    """Whatever stands in the place of a name: 404, and no file is ever looked for by it."""
    for method in ("GET", "DELETE"):
        assert http.request(method, f"/indexes/{name}/search" if name == ".." else f"/indexes/{name}").status_code in (404, 405)
