"""Manifests: what was sealed is read, and every kind of damage is noticed."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from snapshots.errors import Corrupt, Refused
from snapshots.log import Place
from snapshots.manifest import EMPTY_LOG, FORMAT, File, Manifest, Parent, read, seal

NUMBERS = st.integers(0, 2**63)
TEXTS = st.text(max_size=20)
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
FILES = st.builds(File, path=TEXTS, size=NUMBERS, pieces=st.lists(DIGESTS, max_size=3), piece_bytes=st.integers(1, 2**40))
MANIFESTS = st.builds(
    Manifest,
    format=st.just(FORMAT),
    kind=st.sampled_from(["claim", "checkpoint"]),
    lineage=TEXTS,
    epoch=NUMBERS,
    generation=NUMBERS,
    writer=TEXTS,
    host=TEXTS,
    created_us=NUMBERS,
    base_generation=NUMBERS,
    base_sequence=NUMBERS,
    base_time_us=NUMBERS,
    log=st.builds(Place, number=NUMBERS, digest=DIGESTS, sequence=NUMBERS, bytes=NUMBERS),
    engine=st.dictionaries(TEXTS, TEXTS, max_size=3),
    counts=st.dictionaries(TEXTS, NUMBERS, max_size=3),
    files=st.lists(FILES, max_size=3),
    parent=st.none() | st.builds(Parent, lineage=TEXTS, sequence=NUMBERS),
    digest=st.just(""),
)


def made() -> Manifest:
    files = [File("data.mdb", 2500, ["a" * 64, "b" * 64, "a" * 64], 1000), File("empty", 0, [])]
    return Manifest(
        kind="checkpoint",
        lineage="c" * 32,
        epoch=2,
        generation=9,
        writer="d" * 32,
        host="host",
        created_us=1,
        base_generation=9,
        base_sequence=5,
        base_time_us=1,
        log=EMPTY_LOG,
        engine={"format": "1"},
        counts={"assets": 5},
        files=files,
    )


@given(MANIFESTS)
def test_round_trip(manifest: Manifest) -> None:
    """Sealing twice changes nothing, and the digest is of all the rest."""
    sealed, body = seal(manifest)
    assert read(manifest.generation, body) == sealed
    assert seal(sealed) == (sealed, body)
    assert seal(msgspec.structs.replace(manifest, epoch=manifest.epoch + 1))[0].digest != sealed.digest


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    """Wherever it is: it reads as damaged, or as of another version when the number of the version was hit."""
    body = bytearray(seal(made())[1])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((Corrupt, Refused)):
        read(9, bytes(body))


@given(st.data())
def test_a_cut_is_noticed(data: st.DataObject) -> None:
    body = seal(made())[1]
    with pytest.raises(Corrupt):
        read(9, body[: data.draw(st.integers(0, len(body) - 1))])


@pytest.mark.parametrize("generation", [8, 10, 0])
def test_under_another_name(generation: int) -> None:
    with pytest.raises(Corrupt, match="not the one of its name"):
        read(generation, seal(made())[1])


@pytest.mark.parametrize(("version", "shown"), [("2", "2"), ("0", "0"), ('"1"', '"1"'), ("null", "null"), ("11", "11")])
def test_another_version_is_refused(version: str, shown: str) -> None:
    """Before its fields are looked at: they may mean something else."""
    body = f'{{"format":{version},"what":"ever"}}'.encode()
    with pytest.raises(Refused, match=f"has format {shown}, this version reads {FORMAT}"):
        read(9, body)


def test_without_a_version() -> None:
    with pytest.raises(Refused, match="has format None"):
        read(9, b"{}")


@pytest.mark.parametrize("body", [b"", b"[]", b'{"format":1}', b'{"format":1,"kind":3}', b"\xff"])
def test_what_is_no_manifest(body: bytes) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        read(9, body)


def test_what_it_names() -> None:
    assert made().bytes == 2500
    assert made().pieces == {"a" * 64, "b" * 64}
