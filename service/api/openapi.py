"""The OpenAPI 3.1 document: made of the types in `schema` and the table in `operations`."""

from __future__ import annotations

from typing import Any

import msgspec

from service import __version__
from service.api import examples
from service.api.access import Limits
from service.api.durability import HEADER as DURABILITY
from service.api.durability import WORDS
from service.api.operations import ASSET, CODE, ERRORS, EXACT, GENERATION, LEVEL, LIMIT, NAME, OPERATIONS, Answer, Operation
from service.api.querystring import LIMIT_DEFAULT
from service.api.schema import IsccCodeText, IsccEntry, IsccId, Readiness
from service.logs import LEVELS

REF = "#/components/schemas/{name}"
JSON = "application/json"
OPEN_TAG = "service"
TAGS = {
    "indexes": "Places for assets that are searched together.",
    "assets": "What is searched: an ISCC-ID with a code, units, simprints and metadata.",
    "search": "Finding assets that are the same or similar.",
    "snapshots": "What the bucket holds, from which an empty machine is filled.",
    "log": "How much the log says.",
    "service": "For probes, monitoring and people. Open without a key.",
}
INTRODUCTION = (
    "Similarity search for ISCC codes (ISO 24138). Every answer to a write means: it is on the disk and every later search finds it. "
    "Answers carry `x-request-id`; send your own to find a request in the log."
)
DURABILITY_WORDS = (
    "When the write is answered: `local`, when it is on the disk; `remote`, when it is in the bucket too. Without it as "
    "ISCC_SEARCH_DURABILITY says."
)
Json = dict[str, Any]


def document(limits: Limits) -> Json:
    """The whole document as plain values, with the limits that hold here."""
    types = _types()
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    by_type[repr(list[IsccEntry])]["maxItems"] = limits.max_assets
    parameters = _parameters(limits)
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation, by_type, parameters)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tidepool", "version": __version__, "description": INTRODUCTION, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-Key"}},
        },
    }


def _types() -> list[Any]:
    found: dict[str, Any] = {}
    for operation in OPERATIONS:
        answers = [operation.success[1], *ERRORS.values()]
        for kind in (operation.body, *(answer.type for answer in answers)):
            if kind is not None:
                found[repr(kind)] = kind
    return list(found.values())


def _operation(operation: Operation, schemas: dict[str, Json], parameters: dict[str, Json]) -> Json:
    made: Json = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "responses": _responses(operation, schemas),
    }
    in_path = [name for name in (NAME, ASSET, GENERATION, LEVEL) if f"{{{name}}}" in operation.path]
    if in_path or operation.query or operation.headers:
        made["parameters"] = [parameters[name] for name in (*in_path, *operation.query, *operation.headers)]
    if operation.body is not None:
        named = {name: {"value": value} for name, value in operation.body_examples.items()}
        made["requestBody"] = {"required": True, "content": {JSON: {"schema": schemas[repr(operation.body)], "examples": named}}}
    if operation.tag != OPEN_TAG:
        made["security"] = [{"key": []}, {}]
    return made


def _responses(operation: Operation, schemas: dict[str, Json]) -> Json:
    status, success = operation.success
    responses = {str(status): _response(success, schemas)}
    for code in sorted(set(operation.errors)):
        responses[str(code)] = _response(ERRORS[code], schemas)
        if code == 503:
            responses["503"]["headers"] = {"Retry-After": _RETRY_AFTER}
    if operation.id == "readyz":
        responses["503"] = _response(Answer("Not yet, or not any more.", Readiness, examples.NOT_READY), schemas)
        responses["503"]["headers"] = {"Retry-After": _RETRY_AFTER}
    if "{" in operation.path:
        responses["414"] = _response(Answer("The path is too long.", ERRORS[404].type), schemas)
    return responses


def _response(answer: Answer, schemas: dict[str, Json]) -> Json:
    headers = {"x-request-id": {"description": "Id of the request in the log.", "schema": {"type": "string"}}}
    if answer.type is None:
        return {"description": answer.description, "headers": headers}
    content: Json = {"schema": schemas[repr(answer.type)]}
    if answer.example is not None:
        content["example"] = answer.example
    return {"description": answer.description, "headers": headers, "content": {answer.media_type: content}}


def _parameters(limits: Limits) -> dict[str, Json]:
    limit = {"type": "integer", "minimum": 1, "maximum": limits.max_limit, "default": min(LIMIT_DEFAULT, limits.max_limit)}
    return {
        NAME: _parameter(NAME, "path", "Name of the index.", {"type": "string"}, "photos"),
        ASSET: _parameter(ASSET, "path", "ISCC-ID of the asset.", msgspec.json.schema(IsccId), examples.ISCC_ID),
        LIMIT: _parameter(LIMIT, "query", "Most matches in the answer. ISCC_SEARCH_MAX_LIMIT sets the highest.", limit, 10),
        EXACT: _parameter(EXACT, "query", "Only identical simprints match.", {"type": "boolean", "default": False}, False),
        CODE: _parameter(CODE, "query", "ISCC-CODE to search for.", msgspec.json.schema(IsccCodeText), examples.CODE),
        GENERATION: _parameter(GENERATION, "path", "Number of the generation.", {"type": "integer", "minimum": 0}, 2),
        LEVEL: _parameter(LEVEL, "path", "Lines of this level and above.", {"type": "string", "enum": list(LEVELS)}, "debug"),
        DURABILITY: _parameter(DURABILITY, "header", DURABILITY_WORDS, {"type": "string", "enum": list(WORDS)}, "remote"),
    }


def _parameter(name: str, place: str, description: str, schema: Json, example: object) -> Json:
    required = name not in (LIMIT, EXACT, DURABILITY)
    return {"name": name, "in": place, "required": required, "description": description, "schema": schema, "example": example}


_RETRY_AFTER: Json = {"description": "Seconds to wait.", "schema": {"type": "integer"}}
