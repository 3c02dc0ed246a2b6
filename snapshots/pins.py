"""Pins: names for checkpoints that are never pruned, until the pin is removed or expires. One small object each."""

from __future__ import annotations

import msgspec

from snapshots.errors import Corrupt, Missing, Refused
from snapshots.manifest import Manifest
from snapshots.paths import PIN_NAME, PINS, parse_pin_key, pin_key
from snapshots.prefix import Prefix

FORMAT = 1


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """`expires_us` None: holds until it is removed."""

    format: int = FORMAT
    name: str
    generation: int
    """Always a checkpoint's."""
    created_us: int
    expires_us: int | None = None

    def holds(self, now_us: int) -> bool:
        return self.expires_us is None or self.expires_us > now_us


def pin(prefix: Prefix, name: str, generation: int, expires_us: int | None, now_us: int) -> Pin:
    """Pins a checkpoint; a claim stands for the checkpoint that it repeats. May be called twice.

    Raises Missing when there is no such checkpoint, Refused when the name is taken or cannot be one.
    """
    key = _key(name)
    if expires_us is not None and expires_us <= now_us:
        raise Refused(f"the pin {name} would have expired already")
    checkpoint = _checkpoint(prefix, generation)
    wanted = Pin(name=name, generation=checkpoint.generation, created_us=now_us, expires_us=expires_us)
    there = _read(prefix, key)
    if there is not None and not there.holds(now_us):
        unpin(prefix, name)
        there = None
    if there is None and not prefix.bucket.create(key, msgspec.json.encode(wanted)):
        there = _read(prefix, key)
    if there is not None and (there.generation, there.expires_us) != (wanted.generation, wanted.expires_us):
        raise Refused(f"the pin {name} holds generation {there.generation} already: remove it first, or take another name")
    _still_there(prefix, wanted)
    return there or wanted


def unpin(prefix: Prefix, name: str) -> None:
    """Raises Missing when there is none of that name."""
    key = _key(name)
    if prefix.bucket.head(key) is None:
        raise Missing(f"{prefix.bucket.url} has no pin {name}")
    if not prefix.bucket.delete(key):
        raise Refused(f"{prefix.bucket.url} says that it deleted {key}, but it is still there")


def pins(prefix: Prefix) -> list[Pin]:
    """All, by name, those that have expired too. Raises Corrupt or Refused when one cannot be read: what it holds is not known then."""
    keys = [entry.key for entry in prefix.bucket.list(PINS) if parse_pin_key(entry.key) is not None]
    found = (_read(prefix, key) for key in keys)
    return [each for each in found if each is not None]


def pinned(prefix: Prefix, now_us: int) -> dict[int, list[str]]:
    """The names of the pins that hold a generation now."""
    found: dict[int, list[str]] = {}
    for each in pins(prefix):
        if each.holds(now_us):
            found.setdefault(each.generation, []).append(each.name)
    return found


def _key(name: str) -> str:
    key = pin_key(name)
    if key is None:
        raise Refused(f"a pin cannot be called {name!r}: {PIN_NAME}")
    return key


def _checkpoint(prefix: Prefix, generation: int) -> Manifest:
    """The checkpoint of a generation."""
    try:
        found = prefix.manifest(generation)
    except Missing:
        raise Missing(f"{prefix.bucket.url} has no generation {generation}") from None
    if found.kind == "checkpoint":
        return found
    if found.base_generation == 0:
        raise Refused(f"generation {generation} has no files that could be pinned: the index began empty. Make a checkpoint first")
    try:
        return prefix.manifest(found.base_generation)
    except Missing:
        raise Missing(f"generation {generation} stands on the checkpoint {found.base_generation}, which was pruned") from None


def _still_there(prefix: Prefix, made: Pin) -> None:
    """A prune may have come in between: a pin must not name what is gone."""
    try:
        prefix.manifest(made.generation)
    except Missing:
        unpin(prefix, made.name)
        raise Missing(f"generation {made.generation} was pruned while it was being pinned") from None


def _read(prefix: Prefix, key: str) -> Pin | None:
    """None when it is not there."""
    try:
        found = msgspec.json.decode(prefix.bucket.get(key), type=Pin)
    except Missing:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"pin cannot be read key={key}: {error}; remove it and pin again") from error
    if found.format != FORMAT:
        raise Refused(f"pin {key} has format {found.format}, this version reads {FORMAT}: run a newer version of tidepool")
    return found
