"""The OpenAPI document and the page made of it: they tell what the service does, and need nothing from elsewhere."""

from __future__ import annotations

import re
from typing import Any

import httpx
import jsonschema_rs
import pytest

from service.api import docs, openapi
from service.api.access import Limits
from service.api.examples import CREATE, ENTRY_UNITS, INDEX, RESULTS, SEARCH_RESULT
from service.api.operations import OPERATIONS, Operation
from service.app import create_router
from tests.api.stub import NoAccess

PAGES = {"/docs", "/playground", "/openapi/{file}", "/static/{path}"}
DOCUMENT = openapi.document(Limits())


def test_the_document_has_every_route_and_no_other() -> None:
    """Routes of the application and of the document are the same; pages for people are left out."""
    router = create_router(NoAccess(), Limits(), secret=None)
    served = {
        (re.sub(r":[a-z]+}", "}", route.path), str(method))
        for route in router.routes
        for method in getattr(route, "methods", ())
        if method != "OPTIONS"
    }
    told = {(path, method.upper()) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert {route for route in served if route[0] not in PAGES} == told


def test_every_reference_leads_somewhere() -> None:
    """Types are named once, under components."""
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', openapi_text(DOCUMENT)))
    assert names <= DOCUMENT["components"]["schemas"].keys()
    assert {"IsccIndex", "IsccEntry", "IsccSimprint", "IsccQuery", "IsccAddResult", "IsccSearchResult", "HttpError"} <= names | {
        "IsccSimprint"
    }


def openapi_text(document: dict[str, Any]) -> str:
    return str(document).replace("'", '"')


@pytest.mark.parametrize("file", ["openapi.json", "openapi.yaml", "IsccEntry.yaml", "HttpError.yaml"])
def test_files_are_served(http: httpx.Client, file: str) -> None:
    """The document and each type, without a key."""
    answer = http.get(f"/openapi/{file}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == ("application/json" if file.endswith("json") else "application/yaml")
    assert isinstance(answer.json(), dict)


def test_the_served_document_has_the_limits_that_hold(http: httpx.Client) -> None:
    """Bounds that are settings are those of this service."""
    schema = http.get("/openapi/openapi.json").json()["paths"]["/indexes/{name}/assets"]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]
    assert schema["maxItems"] == 50


def test_the_page_loads_nothing(http: httpx.Client) -> None:
    """No script, no style sheet, no font, no picture from anywhere."""
    answer = http.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert re.findall(r"<script|<img|<iframe|@import|url\(|src=", answer.text) == []
    links = re.findall(r'href="([^"]*)"', answer.text)
    assert all(link.startswith(("#", "/openapi/", "data:,")) for link in links)
    anchors = set(re.findall(r'id="([^"]*)"', answer.text))
    assert {link[1:] for link in links if link.startswith("#")} <= anchors


def test_the_page_tells_every_route_type_and_error() -> None:
    """Nothing of the document is missing, and nothing in it is taken for HTML."""
    page = docs.page(DOCUMENT)
    for path in DOCUMENT["paths"]:
        assert path in page
    for name in DOCUMENT["components"]["schemas"]:
        assert f'<article id="{name}">' in page
    for status in ("401", "413", "422", "503", "507"):
        assert f"<code>{status}</code>" in page
    hostile = {**DOCUMENT, "info": {"title": "<b>", "version": "1", "description": "<script>"}}
    assert "<script>" not in docs.page(hostile)


def examples() -> list[Any]:
    return [pytest.param(operation, name, id=f"{operation.id}-{name}") for operation in OPERATIONS for name in operation.body_examples]


@pytest.mark.parametrize(("operation", "name"), examples())
def test_every_example_of_a_body_is_accepted(http: httpx.Client, index: str, operation: Operation, name: str) -> None:
    """What the documentation shows can be pasted; what comes back fits the type that it names."""
    http.post(f"{index}/assets", json=[ENTRY_UNITS])
    path = operation.path.replace("/indexes/{name}", index)
    http.delete(f"/indexes/{CREATE['name']}")
    answer = http.request(operation.method, path, json=operation.body_examples[name])
    assert answer.status_code == operation.success[0], answer.text
    check(operation, operation.success[0], answer.json())


def test_examples_of_answers_are_real(http: httpx.Client) -> None:
    """The walk through the examples gives the answers that they show."""
    http.delete("/indexes/photos")
    http.post("/indexes", json=CREATE)
    assert http.post("/indexes/photos/assets", json=[ENTRY_UNITS]).json() == RESULTS
    assert http.get("/indexes/photos").json() == INDEX
    assert http.get(f"/indexes/photos/assets/{ENTRY_UNITS['iscc_id']}").json() == ENTRY_UNITS
    assert http.post("/indexes/photos/search", json={"units": ENTRY_UNITS["units"]}).json() == SEARCH_RESULT


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_every_example_of_an_answer_fits_its_type(operation: Operation) -> None:
    """Examples of successes and of errors are valid for their schemas."""
    for status, response in DOCUMENT["paths"][operation.path][operation.method]["responses"].items():
        media = response.get("content", {}).get("application/json", {})
        if "example" in media:
            check(operation, int(status), media["example"])


def check(operation: Operation, status: int, body: Any) -> None:
    """The body against the schema of the document."""
    schema = DOCUMENT["paths"][operation.path][operation.method]["responses"][str(status)]["content"]["application/json"]["schema"]
    jsonschema_rs.validator_for({**schema, "components": DOCUMENT["components"]}).validate(body)
