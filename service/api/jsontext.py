"""JSON bytes → typed values, strict and total: every byte sequence gives a value or Unprocessable with the place of the first fault."""

from __future__ import annotations

import json
import re
from typing import TypeVar

import msgspec

from service.api.errors import unprocessable
from service.api.schema import PATTERN_WORDS

T = TypeVar("T")
Place = list[str | int]

CUT_OFF = "JSON is malformed: it ends too early, or half of a surrogate pair is missing"
_TRUNCATED = "Input data was truncated"  # the decoder says this of both
_SYNTAX = msgspec.json.Decoder(msgspec.Raw)
_CONSTANTS = (b"NaN", b"Infinity")
_PATH_STEP = re.compile(r"\.([A-Za-z_]+)|\[(\d+)\]|\[\.\.\.\]")
UNNAMED = "..."
"""Stands in a place for a key that the decoder does not name."""


def check_text(body: bytes) -> bytes:
    """The body as strict JSON text: UTF-8 throughout (the decoder does not look into strings that it skips), NaN and Infinity made null."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            raise unprocessable(
                ["body", error.start], f"the body is not UTF-8: {error.reason} at byte {error.start}", "json_invalid"
            ) from error
    if any(constant in body for constant in _CONSTANTS):
        return _without_constants(body)
    return body


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, loc: Place) -> T:
    """The decoded value; a fault is reported at its place below `loc`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        msg, _, path = str(error).partition(" - at `")
        raise unprocessable([*loc, *_place(path)], _in_words(msg), "type_error") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        msg = CUT_OFF if str(error) == _TRUNCATED else str(error)
        raise unprocessable(loc, msg, "json_invalid") from error
    except RecursionError as error:
        raise unprocessable(loc, "the body is nested too deeply", "json_invalid") from error


def _without_constants(body: bytes) -> bytes:
    """JSON has no NaN and no Infinity, but clients send them. A body that merely has these words in a text stays as it is."""
    try:
        _SYNTAX.decode(body)
    except msgspec.DecodeError:
        return _reencoded(body)
    except RecursionError as error:
        raise unprocessable(["body"], "the body is nested too deeply", "json_invalid") from error
    return body


def _reencoded(body: bytes) -> bytes:
    try:
        return msgspec.json.encode(json.loads(body, parse_constant=_null))
    except ValueError as error:
        raise unprocessable(["body"], f"JSON is malformed: {error}", "json_invalid") from error
    except RecursionError as error:
        raise unprocessable(["body"], "the body is nested too deeply", "json_invalid") from error


def _null(_: str) -> None:
    return None


def _in_words(msg: str) -> str:
    """A pattern tells people less than a sentence."""
    before, _, pattern = msg.rstrip("'").partition("matching regex '")
    return PATTERN_WORDS.get(pattern, msg) if before else msg


def _place(path: str) -> Place:
    """From the decoder's path, `$.units[1]`, to the contract's list."""
    return [name or (int(position) if position else UNNAMED) for name, position in _PATH_STEP.findall(path)]
