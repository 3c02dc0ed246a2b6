"""The documentation page: plain HTML made of the OpenAPI document. It loads nothing, so it works without internet access."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import msgspec

from service.api.style import CSS

Json = dict[str, Any]


def page(document: Json) -> str:
    info = document["info"]
    title = escape(info["title"])
    sections = "".join(_section(document, tag) for tag in document["tags"])
    schemas = "".join(_named_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items()))
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<link rel="icon" href="data:,"><title>{title}</title><style>{CSS}</style></head><body>{_navigation(document)}<main>'
        f"<h1>{title} <small>{escape(info['version'])}</small></h1><p>{_prose(info['description'])}</p>"
        f'<p>As a document for tools: <a href="/openapi/openapi.json">openapi.json</a>, <a href="/openapi/openapi.yaml">openapi.yaml</a>. '
        f"Where a key is needed it goes into the header <code>X-API-Key</code>.</p>{sections}"
        f'<section id="schemas"><h2>Types</h2>{schemas}</section></main></body></html>'
    )


def _navigation(document: Json) -> str:
    parts = []
    for tag in document["tags"]:
        links = "".join(
            f'<a href="#{operation["operationId"]}"><span class="{method}">{escape(operation["summary"])}</span></a>'
            for _, method, operation in _operations(document, tag["name"])
        )
        parts.append(f"<h2>{escape(tag['name'])}</h2>{links}")
    names = "".join(f'<a href="#{name}">{name}</a>' for name in sorted(document["components"]["schemas"]))
    return f"<nav>{''.join(parts)}<h2>types</h2>{names}</nav>"


def _operations(document: Json, tag: str) -> Iterable[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"]:
                yield path, method, operation


def _section(document: Json, tag: Json) -> str:
    operations = "".join(_operation(path, method, operation) for path, method, operation in _operations(document, tag["name"]))
    return f"<section><h2>{escape(tag['name'].capitalize())}</h2><p>{_prose(tag['description'])}</p>{operations}</section>"


def _operation(path: str, method: str, operation: Json) -> str:
    return (
        f'<article id="{operation["operationId"]}"><h3><span class="method {method}">{method}</span>{escape(path)}</h3>'
        f"<p><strong>{escape(operation['summary'])}.</strong> {_prose(operation['description'])}</p>"
        f"{_parameters(operation.get('parameters', []))}{_body(operation.get('requestBody'))}{_responses(operation['responses'])}</article>"
    )


def _parameters(parameters: list[Json]) -> str:
    rows = [
        f"<tr><td><code>{escape(found['name'])}</code></td><td>{escape(found['in'])}{', required' if found['required'] else ''}</td>"
        f"<td>{_prose(found['description'])} {_facts(found['schema'])} Example: <code>{escape(str(found['example']))}</code></td></tr>"
        for found in parameters
    ]
    return _table("Parameters", ("name", "place", "meaning"), rows)


def _body(body: Json | None) -> str:
    if body is None:
        return ""
    content = body["content"]["application/json"]
    examples = "".join(_example(f"Example: {name}", found["value"]) for name, found in content["examples"].items())
    return f"<h4>Body</h4><p>{_type(content['schema'])}</p>{examples}"


def _responses(responses: Json) -> str:
    rows = []
    for status, response in responses.items():
        media: Json = next(iter(response.get("content", {}).values()), {})
        shown = _type(media["schema"]) if media else ""
        example = _example("Example", media["example"]) if "example" in media else ""
        rows.append(f"<tr><td><code>{status}</code></td><td>{shown}</td><td>{_prose(response['description'])}{example}</td></tr>")
    return _table("Answers", ("status", "type", "meaning"), rows)


def _named_schema(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    rows = [
        f"<tr><td><code>{escape(member)}</code>{' *' if member in required else ''}</td><td>{_type(kind)}</td>"
        f"<td>{_prose(_description(kind))} {_facts(kind)}</td></tr>"
        for member, kind in schema.get("properties", {}).items()
    ]
    table = _table("Members (* always there)", ("name", "type", "meaning"), rows)
    return f'<article id="{name}"><h3>{name}</h3><p>{_prose(schema.get("description", ""))}</p>{table}</article>'


def _type(schema: Json) -> str:
    """The type in words, with links to named ones."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_type(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    kind = schema.get("type", "anything")
    return escape(" or ".join(kind) if isinstance(kind, list) else kind)


def _description(schema: Json) -> str:
    parts = [schema, *schema.get("anyOf", [])]
    return next((part["description"] for part in parts if "description" in part), "")


def _facts(schema: Json) -> str:
    """The bounds of a type."""
    names = ("pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "enum", "default")
    parts = [schema, *schema.get("anyOf", [])]
    facts = [(name, part[name]) for part in parts for name in names if part.get(name) is not None]
    return " ".join(f"<code>{name} {escape(str(value))}</code>" for name, value in facts)


def _example(label: str, value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    return f"<details><summary>{escape(label)}</summary><pre>{escape(text)}</pre></details>"


def _table(title: str, heads: tuple[str, ...], rows: list[str]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    return f"<h4>{escape(title)}</h4><table><tr>{head}</tr>{''.join(rows)}</table>"


def _prose(text: str) -> str:
    """Text with `code` in backticks."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
