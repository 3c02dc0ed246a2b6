"""Names of objects: built and parsed here alone. Numbers have 20 digits, so that name order is number order."""

from __future__ import annotations

import re

FORMAT = "v1/format.json"
HINT = "v1/HEAD.json"
MANIFESTS = "v1/manifests/"
LOGS = "v1/log/"
BLOBS = "v1/blobs/"
PINS = "v1/pins/"
GARBAGE = "v1/garbage/"
PROBES = "v1/probe/"

_DIGITS = 20
_MANIFEST = re.compile(rf"{MANIFESTS}(\d{{{_DIGITS}}})\.json")
_LOG = re.compile(rf"{LOGS}([0-9a-f]{{32}})/(\d{{{_DIGITS}}})\.log")
_BLOB = re.compile(rf"{BLOBS}([0-9a-f]{{2}})/(\1[0-9a-f]{{62}})")
_GARBAGE = re.compile(rf"{GARBAGE}(\d{{{_DIGITS}}})-([0-9a-f]{{16}})\.json")
_PIN = re.compile(rf"{PINS}([a-z0-9][a-z0-9._-]{{0,63}})\.json")
PIN_NAME = "lower-case letters, digits, '.', '_' and '-', at most 64, the first a letter or a digit"


def manifest_key(generation: int) -> str:
    return f"{MANIFESTS}{generation:0{_DIGITS}}.json"


def parse_manifest_key(key: str) -> int | None:
    """The generation; None for a name that is no manifest's."""
    match = _MANIFEST.fullmatch(key)
    return int(match[1]) if match else None


def log_folder(lineage: str) -> str:
    return f"{LOGS}{lineage}/"


def log_key(lineage: str, number: int) -> str:
    return f"{log_folder(lineage)}{number:0{_DIGITS}}.log"


def parse_log_key(key: str) -> tuple[str, int] | None:
    """Lineage and number; None for a name that is no log object's."""
    match = _LOG.fullmatch(key)
    return (match[1], int(match[2])) if match else None


def blob_key(digest: str) -> str:
    return f"{BLOBS}{digest[:2]}/{digest}"


def parse_blob_key(key: str) -> str | None:
    """The digest; None for a name that is no blob's."""
    match = _BLOB.fullmatch(key)
    return match[2] if match else None


def pin_key(name: str) -> str | None:
    """None when a pin cannot have this name."""
    key = f"{PINS}{name}.json"
    return key if _PIN.fullmatch(key) else None


def parse_pin_key(key: str) -> str | None:
    match = _PIN.fullmatch(key)
    return match[1] if match else None


def garbage_key(time_us: int, name: str) -> str:
    """`name` is 16 hexadecimal digits, by chance."""
    return f"{GARBAGE}{time_us:0{_DIGITS}}-{name}.json"


def parse_garbage_key(key: str) -> int | None:
    """When the list was made; None for a name that is no list's."""
    match = _GARBAGE.fullmatch(key)
    return int(match[1]) if match else None
