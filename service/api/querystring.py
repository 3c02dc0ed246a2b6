"""The query string of a search: `limit`, `iscc_code` and `exact`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from litestar import Request

from service.api.errors import BadRequest, unprocessable
from service.api.schema import IsccQuery
from service.engine import codes
from service.engine.codes import CodeError

LIMIT_DEFAULT = 100
_WHOLE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9:.-]*")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_DIGITS_MAX = 18
_FIELDS_MAX = 100


def read_limit(request: Request[Any, Any, Any], limit_max: int) -> int:
    text = _parameter(request, "limit")
    if text is None:
        return min(LIMIT_DEFAULT, limit_max)
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise unprocessable(["query", "limit"], f"expected a whole number from 1 to {limit_max}", "int_parsing")
    sign, digits = match.groups()
    if sign == "-" or len(digits) > _DIGITS_MAX or not 1 <= int(digits) <= limit_max:
        allowed = f"expected 1 to {limit_max}, the highest is ISCC_SEARCH_MAX_LIMIT"
        raise unprocessable(["query", "limit"], f"limit is out of range: {allowed}", "limit")
    return int(digits)


def read_code(request: Request[Any, Any, Any]) -> IsccQuery:
    """The query that GET means. A bad code is a 400 here, as clients of iscc-search expect it."""
    text = _parameter(request, "iscc_code")
    if text is None:
        raise unprocessable(["query", "iscc_code"], "missing: write ?iscc_code=ISCC:…", "missing")
    try:
        codes.parse_code(text)
    except CodeError as error:
        raise BadRequest(f"iscc_code: {error}") from error
    return IsccQuery(iscc_code=text)


def read_exact(request: Request[Any, Any, Any]) -> bool:
    text = _parameter(request, "exact")
    if text is not None and text not in _BOOLEANS:
        raise unprocessable(["query", "exact"], "expected true or false", "bool_parsing")
    return _BOOLEANS[text] if text is not None else False


def _parameter(request: Request[Any, Any, Any], wanted: str) -> str | None:
    """The last one counts."""
    query = request.scope["query_string"].decode("latin-1")
    if wanted not in query and "%" not in query:
        return None
    name, separator, value = query.partition("=")
    if name == wanted and separator and _PLAIN.fullmatch(value):
        return value  # the only parameter, and nothing in it to decode: by far the most frequent
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise BadRequest(f"the query string has more than {_FIELDS_MAX} fields") from error
    return next((value for name, value in reversed(fields) if name == wanted), None)
