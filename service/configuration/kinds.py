"""Kinds of values: how the text of a variable is read, and the same rule as a JSON Schema.

A reader raises ValueError with what was expected; it never repeats the text. A schema describes the text, so it also fits quoted numbers
in YAML.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Any

import msgspec

from service.configuration.digits import between

Schema = dict[str, Any]


class Kind(msgspec.Struct, frozen=True):
    """One way to read a text."""

    read: Callable[[str], object]
    schema: Schema


def integer(low: int, high: int) -> Kind:
    expected = f"expected a whole number from {low} to {high}"

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ValueError(expected)
        if not low <= int(text) <= high:
            raise ValueError(expected)
        return int(text)

    return Kind(read, {"pattern": f"^0*({between(low, high)})$"})


def number(low: float, high: float, expected: str) -> Kind:
    """Any spelling that Python reads; a schema cannot compare texts, so it only looks at the letters."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError as error:
            raise ValueError(expected) from error
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return Kind(read, {"pattern": r"^\s*\+?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"})


def fraction() -> Kind:
    return number(0, 1, "expected a number from 0 to 1, such as 0.75")


def seconds(low: float, high: float) -> Kind:
    return number(low, high, f"expected seconds from {low:g} to {high:g}, such as 1 or 0.5")


def choice(*words: str) -> Kind:
    """One of some words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"expected {_either(words)}")
        return text.lower()

    return Kind(read, {"pattern": f"^({'|'.join(_any_case(word) for word in words)})$"})


def yes_or_no() -> Kind:
    words = choice("yes", "no")
    return Kind(lambda text: words.read(text) == "yes", words.schema)


def text_of(read: Callable[[str], object], **schema: Any) -> Kind:
    """A text with rules of its own."""
    return Kind(read, schema)


def optional(kind: Kind, empty: object = "") -> Kind:
    """The same, or nothing."""
    return Kind(lambda text: kind.read(text) if text else empty, {"anyOf": [{"const": ""}, kind.schema]})


def host(text: str) -> str:
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError("expected an IP address: 127.0.0.1 for this machine only, 0.0.0.0 for all networks") from error


def networks(text: str) -> tuple[str, ...]:
    """Networks, or single addresses, separated by commas."""
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            found.append(str(ipaddress.ip_network(part)))
        except ValueError as error:
            raise ValueError(f"expected networks such as 10.0.0.0/8, fd00::/8, separated by commas; {error}") from error
    return tuple(found)


def rate(text: str) -> tuple[int, str]:
    """`60/minute`: how many, and in which time."""
    count, separator, unit = text.partition("/")
    if not separator or unit not in UNITS or not (count.isascii() and count.isdigit() and 0 < int(count[:10]) <= RATE_MAX):
        raise ValueError(f"expected a number and {_either(UNITS)}, such as 60/minute, or nothing for no limit")
    return int(count), unit


UNITS = ("second", "minute", "hour", "day")
RATE_MAX = 1_000_000
RATE = Kind(rate, {"pattern": f"^0*({between(1, RATE_MAX)})/({'|'.join(UNITS)})$"})


def _either(words: tuple[str, ...]) -> str:
    return " or ".join(words) if len(words) < 3 else ", ".join(words[:-1]) + " or " + words[-1]


def _any_case(word: str) -> str:
    return "".join(f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter for letter in word)
