"""Pins."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapshots.errors import Corrupt, Missing, Refused
from snapshots.paths import pin_key
from snapshots.pins import Pin, pin, pinned, pins, unpin
from snapshots.prefix import Prefix
from tests.snapshots.prefixes import DAY_US, HOUR_US, NOON_US, Maker


@pytest.fixture
def maker(tmp_path: Path) -> Maker:
    """Generation 1 is a claim of an empty index, 2 and 3 are checkpoints, 4 is a claim on 3."""
    made = Maker(tmp_path / "bucket")
    made.begin(NOON_US)
    made.checkpoint(NOON_US)
    made.checkpoint(NOON_US)
    made.claim(NOON_US)
    return made


def test_pin_and_unpin(maker: Maker) -> None:
    """A pin is listed, holds its generation, and is gone after it was removed."""
    made = pin(maker.prefix, "release", 2, None, NOON_US)
    assert made == Pin(name="release", generation=2, created_us=NOON_US)
    pin(maker.prefix, "audit", 2, NOON_US + DAY_US, NOON_US)
    assert [each.name for each in pins(maker.prefix)] == ["audit", "release"]
    assert pinned(maker.prefix, NOON_US) == {2: ["audit", "release"]}
    unpin(maker.prefix, "release")
    assert pinned(maker.prefix, NOON_US) == {2: ["audit"]}
    with pytest.raises(Missing, match="no pin release"):
        unpin(maker.prefix, "release")


def test_pinning_twice(maker: Maker) -> None:
    """The same again is what is there; the name for something else is refused, and nothing changes."""
    made = pin(maker.prefix, "release", 2, None, NOON_US)
    assert pin(maker.prefix, "release", 2, None, NOON_US + 1) == made
    for generation, expires_us in ((3, None), (2, NOON_US + DAY_US)):
        with pytest.raises(Refused, match="holds generation 2 already"):
            pin(maker.prefix, "release", generation, expires_us, NOON_US)
    assert pins(maker.prefix) == [made]


def test_expiry(maker: Maker) -> None:
    """An expired pin is shown and holds nothing, and its name is free."""
    pin(maker.prefix, "release", 2, NOON_US + HOUR_US, NOON_US)
    assert pinned(maker.prefix, NOON_US + HOUR_US - 1) == {2: ["release"]}
    assert pinned(maker.prefix, NOON_US + HOUR_US) == {}
    assert len(pins(maker.prefix)) == 1
    assert pin(maker.prefix, "release", 3, None, NOON_US + HOUR_US).generation == 3
    assert pinned(maker.prefix, NOON_US + HOUR_US) == {3: ["release"]}
    with pytest.raises(Refused, match="would have expired"):
        pin(maker.prefix, "late", 3, NOON_US, NOON_US)


def test_a_claim_stands_for_its_checkpoint(maker: Maker) -> None:
    """A pin never names a claim: what it holds would be gone with the checkpoint."""
    assert pin(maker.prefix, "now", 4, None, NOON_US).generation == 3
    assert pinned(maker.prefix, NOON_US) == {3: ["now"]}


def test_what_cannot_be_pinned(maker: Maker) -> None:
    with pytest.raises(Missing, match="no generation 5"):
        pin(maker.prefix, "x", 5, None, NOON_US)
    with pytest.raises(Refused, match="generation 1 has no files"):
        pin(maker.prefix, "x", 1, None, NOON_US)
    with pytest.raises(Refused, match="cannot be called 'X'"):
        pin(maker.prefix, "X", 2, None, NOON_US)
    (maker.root / "v1/manifests/00000000000000000003.json").unlink()
    with pytest.raises(Missing, match="stands on the checkpoint 3, which was pruned"):
        pin(maker.prefix, "x", 4, None, NOON_US)
    assert pins(maker.prefix) == []


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b'{"name":"a","generation":"2","created_us":1}'])
def test_a_damaged_pin(maker: Maker, body: bytes) -> None:
    """Nobody knows what it holds: reading it is an error, never nothing."""
    maker.bucket.replace(str(pin_key("bad")), body)
    with pytest.raises(Corrupt, match=r"v1/pins/bad\.json"):
        pinned(maker.prefix, NOON_US)


def test_a_pin_of_another_version(maker: Maker) -> None:
    maker.bucket.replace(str(pin_key("new")), b'{"format":2,"name":"new","generation":2,"created_us":1}')
    with pytest.raises(Refused, match="format 2"):
        pinned(maker.prefix, NOON_US)


class Racing:
    """A bucket from which a checkpoint is pruned at the moment when a pin is written."""

    def __init__(self, made: Maker) -> None:
        self._inner = made.bucket

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create(self, key: str, body: bytes) -> bool:
        self._inner.delete("v1/manifests/00000000000000000002.json")
        return self._inner.create(key, body)


def test_pruned_while_being_pinned(maker: Maker) -> None:
    """Nobody is told that it holds."""
    with pytest.raises(Missing, match="generation 2 was pruned while it was being pinned"):
        pin(Prefix(Racing(maker)), "late", 2, None, NOON_US)  # type: ignore[arg-type]  # the rest is passed on
    assert pins(maker.prefix) == []


def test_other_files_are_no_pins(maker: Maker) -> None:
    maker.bucket.replace("v1/pins/README", b"hello")
    assert pins(maker.prefix) == []
