"""Names of objects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshots import paths
from snapshots.bucket import KEY

NUMBERS = st.integers(0, 10**20 - 1)
LINEAGES = st.binary(min_size=16, max_size=16).map(bytes.hex)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
PARSERS = [paths.parse_manifest_key, paths.parse_log_key, paths.parse_blob_key, paths.parse_pin_key, paths.parse_garbage_key]


@given(NUMBERS, NUMBERS)
def test_numbers_order_as_names(a: int, b: int) -> None:
    """Name order is number order, for manifests and for log objects."""
    assert paths.parse_manifest_key(paths.manifest_key(a)) == a
    assert (paths.manifest_key(a) < paths.manifest_key(b)) == (a < b)
    assert (paths.log_key("0" * 32, a) < paths.log_key("0" * 32, b)) == (a < b)


@given(LINEAGES, NUMBERS, DIGESTS)
def test_round_trip(lineage: str, number: int, digest: str) -> None:
    """What is built is parsed, is a key of a bucket, and is parsed as nothing else."""
    assert paths.parse_log_key(paths.log_key(lineage, number)) == (lineage, number)
    assert paths.log_key(lineage, number).startswith(paths.log_folder(lineage))
    assert paths.parse_blob_key(paths.blob_key(digest)) == digest
    assert paths.parse_garbage_key(paths.garbage_key(number, digest[:16])) == number
    pin = paths.pin_key(digest)
    assert pin is not None
    assert paths.parse_pin_key(pin) == digest
    built = [
        paths.manifest_key(number),
        paths.log_key(lineage, number),
        paths.blob_key(digest),
        pin,
        paths.garbage_key(number, digest[:16]),
    ]
    for at, key in enumerate(built):
        assert KEY.fullmatch(key)
        assert [parse(key) is not None for parse in PARSERS] == [at == other for other in range(len(PARSERS))]


@pytest.mark.parametrize(
    "key",
    [
        "v1/manifests/1.json",
        "v1/manifests/" + "0" * 21 + ".json",
        "v1/manifests/" + "0" * 20 + ".json.tmp",
        "x/v1/manifests/" + "0" * 20 + ".json",
        "v1/log/" + "g" * 32 + "/" + "0" * 20 + ".log",
        "v1/log/" + "0" * 31 + "/" + "0" * 20 + ".log",
        "v1/blobs/ab/" + "c" * 64,
        "v1/blobs/cc/" + "c" * 63,
        "v1/pins/.json",
        "v1/garbage/1.json",
        paths.HINT,
        paths.FORMAT,
    ],
)
def test_other_names_are_nobodys(key: str) -> None:
    """What we would not build is not parsed: it is never taken for ours, and so never deleted."""
    assert all(parse(key) is None for parse in PARSERS)


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "A", "a/b", "a b", "ä", "a" * 65, "a\n"])
def test_pins_have_plain_names(name: str) -> None:
    assert paths.pin_key(name) is None


@pytest.mark.parametrize("name", ["a", "0", "before-release_1.2", "a" * 64])
def test_pin_names(name: str) -> None:
    key = paths.pin_key(name)
    assert key is not None
    assert paths.parse_pin_key(key) == name
