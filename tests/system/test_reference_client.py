"""The public client of iscc-search 0.3.3, unchanged, drives our server: its commands, its files, its reading of our answers."""

from __future__ import annotations

import io
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import iscc_core  # type: ignore[import-untyped]  # it comes without annotations
import pytest

from tests.system.reference import ReferenceClient
from tests.system.server import Server

DOCUMENTS = 600
VERSIONS = 6  # so many documents are versions of one text
WORDS_PER_TEXT = 120
FIRST_TIME_US = 1_700_000_000_000_000
THRESHOLD = 0.75
SCORE_DIGITS = 9
INSTANCE = 0x40  # first header byte
CHUNKS = [(0, 250), (250, 250), (500, 300)]  # offset and size of the chunks of each document
SIMPRINT_TYPE = "CONTENT_TEXT_V0"


class Document(NamedTuple):
    """What the file of one document says."""

    iscc_id: str
    iscc: str
    units: list[str]
    name: str


class Loaded(NamedTuple):
    """A server of ours that the client has filled with all documents, and what the client said meanwhile."""

    client: ReferenceClient
    url: str
    files: Path
    documents: list[Document]
    registered: str
    added: str


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    home, files = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("files")
    client = ReferenceClient(home)
    documents = _documents(random.Random(20261120))
    _write(documents, files)
    with Server(tmp_path_factory.mktemp("server") / "data") as server:
        registered = client.run("index", "add", "works", "--remote", server.url)
        client.run("index", "use", "works")
        yield Loaded(client, server.url, files, documents, registered, client.run("add", str(files)))


def test_index_add_creates_the_index(loaded: Loaded) -> None:
    """`index add --remote` finds no index, creates it, and registers it."""
    assert "Created index 'works' on remote server" in loaded.registered
    assert loaded.url in loaded.client.run("index", "list")


def test_index_add_again_keeps_the_index(loaded: Loaded) -> None:
    """`index add --remote` for an index that is there creates nothing."""
    assert "Created index" not in loaded.client.run("index", "add", "works", "--remote", loaded.url)


def test_add_creates_every_file(loaded: Loaded) -> None:
    """`add` of a directory reports each of its files as created."""
    counts = {"files_scanned": DOCUMENTS, "assets_added": DOCUMENTS, "created": DOCUMENTS, "updated": 0, "errors": 0}
    assert _json(loaded.added) == counts


def test_add_again_updates_every_file(loaded: Loaded) -> None:
    """The same files added once more, in batches of another size, are all updated and found as before."""
    document = loaded.documents[42]
    before = loaded.client.run("search", document.iscc)
    counts = _json(loaded.client.run("add", "--batch-size", "250", str(loaded.files)))
    assert counts == {"files_scanned": DOCUMENTS, "assets_added": DOCUMENTS, "created": 0, "updated": DOCUMENTS, "errors": 0}
    assert _json(loaded.client.run("search", document.iscc)) == _json(before)


@pytest.mark.parametrize("position", [0, 7, DOCUMENTS - 1])
def test_search_by_code_finds_all_versions(loaded: Loaded, position: int) -> None:
    """`search` with the code of a document gives what brute force gives: the same documents with the same scores."""
    document = loaded.documents[position]
    answer = _json(loaded.client.run("search", document.iscc, "--limit", "20"))
    found = _found(answer)
    assert found == _expected(loaded.documents, [_shortened(unit) for unit in document.units])
    assert (-1.0, document.iscc_id) in found
    assert len(found) >= VERSIONS


def test_search_by_units_finds_all_versions(loaded: Loaded) -> None:
    """The client's search with the whole units gives what brute force gives, and the client accepts the whole answer."""
    document = loaded.documents[11]
    answer = loaded.client.ask(loaded.url, "works", {"units": document.units})
    assert _found(answer) == _expected(loaded.documents, document.units)


def test_search_by_asset_finds_the_others(loaded: Loaded) -> None:
    """The client's search with an ISCC-ID finds what the asset's units find, without the asset itself."""
    document = loaded.documents[25]
    answer = loaded.client.ask(loaded.url, "works", {"iscc_id": document.iscc_id})
    expected = [pair for pair in _expected(loaded.documents, document.units) if pair[1] != document.iscc_id]
    assert _found(answer) == expected
    assert len(expected) >= VERSIONS - 1


def test_search_by_simprints_finds_chunks(loaded: Loaded) -> None:
    """Simprints from a file find the document with each chunk in its place, then all versions by the chunk that they share."""
    simprints = _simprints(32)
    answer = loaded.client.ask(loaded.url, "works", {"simprints": {SIMPRINT_TYPE: simprints}})
    assert answer["global_matches"] == []
    first, *others = answer["chunk_matches"]
    assert (first["iscc_id"], first["score"]) == (loaded.documents[32].iscc_id, 1.0)
    frequencies = (1, VERSIONS, 1)
    chunks = [
        {"query": simprint, "match": simprint, "score": 1.0, "freq": freq, "offset": offset, "size": size, "content": None}
        for simprint, freq, (offset, size) in zip(simprints, frequencies, CHUNKS, strict=True)
    ]
    assert first["types"] == {SIMPRINT_TYPE: {"score": 1.0, "matches": 3, "queried": 3, "chunks": chunks}}
    assert first["metadata"]["name"] == loaded.documents[32].name
    assert first["source"] == (loaded.files / "0032.iscc.utf8").as_uri()
    weights = [math.log(1 + DOCUMENTS / (1 + freq)) for freq in frequencies]
    assert [match["iscc_id"] for match in others] == [loaded.documents[number].iscc_id for number in (30, 31, 33, 34, 35)]
    for match in others:
        assert match["score"] == pytest.approx(weights[1] / sum(weights), abs=1e-9)
        assert match["types"][SIMPRINT_TYPE]["chunks"] == [chunks[1]]


def test_search_by_asset_finds_its_chunks(loaded: Loaded) -> None:
    """A search with an ISCC-ID also finds the documents that share a chunk, without the document itself."""
    answer = loaded.client.ask(loaded.url, "works", {"iscc_id": loaded.documents[32].iscc_id})
    expected = [loaded.documents[number].iscc_id for number in (30, 31, 33, 34, 35)]
    assert [match["iscc_id"] for match in answer["chunk_matches"]] == expected


def test_add_with_shortened_simprints(loaded: Loaded) -> None:
    """What the client cuts with `--simprint-bits` is found by simprints of that width, in an index of its own."""
    loaded.client.run("index", "add", "short", "--remote", loaded.url)
    added = loaded.client.run("add", "--index", "short", "--simprint-bits", "128", str(loaded.files / "000*.iscc.json"))
    assert _json(added)["created"] == 10
    simprint = iscc_core.encode_base64(iscc_core.decode_base64(_simprints(7)[1])[:16])
    answer = loaded.client.ask(loaded.url, "short", {"simprints": {SIMPRINT_TYPE: [simprint]}})
    found = {match["iscc_id"]: match["types"][SIMPRINT_TYPE]["chunks"] for match in answer["chunk_matches"]}
    assert list(found) == [loaded.documents[number].iscc_id for number in (6, 7, 8, 9)]
    chunk = {"query": simprint, "match": simprint, "score": 1.0, "freq": 4, "offset": 250, "size": 250, "content": None}
    assert all(chunks == [chunk] for chunks in found.values())


def test_search_with_a_code_that_is_none(loaded: Loaded) -> None:
    """`search` with a string that is no ISCC-CODE fails and shows our answer."""
    assert "HTTP 422" in loaded.client.run("search", "ISCC:AAAAAAAAAAAAAAAAAAAAAAAAA", code=1)


def test_get_shows_what_was_added(loaded: Loaded) -> None:
    """`get` gives code, units and metadata of the file."""
    document = loaded.documents[3]
    answer = _json(loaded.client.run("get", document.iscc_id))
    assert answer["iscc_id"] == document.iscc_id
    assert answer["iscc_code"] == document.iscc
    assert answer["units"] == document.units
    assert answer["metadata"] == {"name": document.name, "source": (loaded.files / "0003.iscc.utf8").as_uri()}


def test_get_of_an_unknown_asset(loaded: Loaded) -> None:
    """`get` of an ISCC-ID that is not there says so and exits with 1."""
    assert "Asset not found" in loaded.client.run("get", "ISCC:MAIAAAAAAAAAAAAA", code=1)


def test_get_from_an_index_that_was_deleted(loaded: Loaded) -> None:
    """An index that the client deleted on the server has no assets, also none of another index."""
    loaded.client.run("index", "add", "shortlived", "--remote", loaded.url)
    loaded.client.delete_index(loaded.url, "shortlived")
    assert "Asset not found" in loaded.client.run("get", "--index", "shortlived", loaded.documents[0].iscc_id, code=1)


def test_api_key(tmp_path: Path) -> None:
    """With a secret, the client is refused without the key and served with it."""
    client = ReferenceClient(tmp_path / "home")
    with Server(tmp_path / "data", API_SECRET="a secret of the test") as server:
        assert "HTTP 401" in client.run("index", "add", "works", "--remote", server.url, code=1)
        created = client.run("index", "add", "works", "--remote", server.url, "--api-key", "a secret of the test")
    assert "Created index 'works' on remote server" in created


def _documents(rng: random.Random) -> list[Document]:
    """Versions of texts, with real ISCCs of their bytes."""
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(2_000)]
    documents = []
    for number in range(DOCUMENTS):
        if number % VERSIONS == 0:
            text, name = rng.choices(words, k=WORDS_PER_TEXT), " ".join(rng.choices(words, k=6))
        else:
            text = [*text]
            text[rng.randrange(WORDS_PER_TEXT)] = rng.choice(words)
        documents.append(_document(number, " ".join(text), name))
    return documents


def _document(number: int, text: str, name: str) -> Document:
    data = text.encode()
    units = [
        iscc_core.gen_meta_code_v0(name, bits=256)["iscc"],
        iscc_core.gen_text_code_v0(text, bits=256)["iscc"],
        iscc_core.gen_data_code_v0(io.BytesIO(data), bits=256)["iscc"],
        iscc_core.gen_instance_code_v0(io.BytesIO(data), bits=256)["iscc"],
    ]
    iscc_id = iscc_core.gen_iscc_id_v1(FIRST_TIME_US + number, hub_id=1, realm_id=0)["iscc"]
    return Document(iscc_id, iscc_core.gen_iscc_code_v0(units)["iscc"], units, name)


def _write(documents: list[Document], directory: Path) -> None:
    """The files as the ISCC tools leave them beside the text: identifiers, name, and the fingerprints of chunks."""
    offsets, sizes = zip(*CHUNKS, strict=True)
    for number, document in enumerate(documents):
        feature = {"maintype": "content", "subtype": "text", "version": 0, "simprints": _simprints(number)}
        text = {**document._asdict(), "mode": "text", "features": [{**feature, "offsets": offsets, "sizes": sizes}]}
        (directory / f"{number:04}.iscc.json").write_text(json.dumps(text))


def _simprints(number: int) -> list[str]:
    """Of the chunks of this document: the second is the same in all versions of a text."""
    own, shared = random.Random(f"own {number}"), random.Random(f"shared {number // VERSIONS}")
    return [iscc_core.encode_base64(source.randbytes(32)) for source in (own, shared, own)]


def _expected(documents: list[Document], units: list[str]) -> list[tuple[float, str]]:
    """Brute force by the formula of the contract: score and ISCC-ID of every document that matches."""
    query = [_raw(unit) for unit in units]
    scored = [(_score(query, [_raw(unit) for unit in document.units]), document.iscc_id) for document in documents]
    return sorted((round(-score, SCORE_DIGITS), iscc_id) for score, iscc_id in scored if score > 0)


def _score(query: list[bytes], units: list[bytes]) -> float:
    similarities = [_similarity(a, b) for a, b in zip(query, units, strict=True)]
    matching = [similarity for similarity in similarities if similarity >= THRESHOLD]
    return sum(similarity**4 for similarity in matching) / sum(matching) if matching else 0.0


def _similarity(a: bytes, b: bytes) -> float:
    """Of two units with their headers, over the shorter length; INSTANCE is identical or not."""
    length = min(len(a), len(b)) - 2
    differing = (int.from_bytes(a[2 : 2 + length], "big") ^ int.from_bytes(b[2 : 2 + length], "big")).bit_count()
    return float(differing == 0) if a[0] == INSTANCE else 1 - differing / (8 * length)


def _found(answer: dict[str, Any]) -> list[tuple[float, str]]:
    """Matches as `_expected` gives them; the answer itself has to be in descending order."""
    scores = [match["score"] for match in answer["global_matches"]]
    assert scores == sorted(scores, reverse=True)
    return sorted((round(-match["score"], SCORE_DIGITS), match["iscc_id"]) for match in answer["global_matches"])


def _raw(iscc: str) -> bytes:
    return bytes(iscc_core.decode_base32(iscc.removeprefix("ISCC:")))


def _shortened(unit: str) -> str:
    """The unit with 64 bits, as a code holds it."""
    raw = _raw(unit)
    return "ISCC:" + str(iscc_core.encode_base32(raw[:1] + b"\x01" + raw[2:10]))


def _json(output: str) -> dict[str, Any]:
    """The JSON document that a command prints below its progress lines."""
    document: dict[str, Any] = json.loads(output[output.index("{\n") : output.rindex("}") + 1])
    return document
