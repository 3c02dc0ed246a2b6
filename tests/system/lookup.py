"""Looking up many unique entries at once, and what the engine says about itself."""

from __future__ import annotations

from tests.system.client import Client, metrics
from tests.system.model import Entry

UNITS_PER_SEARCH = 64  # as many as one search may have
SIMPRINT_TYPE = "CONTENT_TEXT_V0"
ENGINE = "tidepool_engine_"
COUNTER = "_total"


def find_wholly(client: Client, index: str, entries: list[Entry]) -> set[str]:
    """ISCC-IDs of what is found by the units and simprints of unique entries. Fails on an asset that some find and others do not.

    One unit type at a time: in a search by all of them an asset that is missing from the codes of one type would be found by another.
    """
    found = [_find(client, index, [entry["units"][position] for entry in entries]) for position in range(4)]
    found += [_find_chunks(client, index, entries, position) for position in range(2)]
    assert all(one == found[0] for one in found), "an asset is found by some of its units or simprints only"
    return found[0]


def _find_chunks(client: Client, index: str, entries: list[Entry], position: int) -> set[str]:
    found: set[str] = set()
    simprints = [entry["simprints"][SIMPRINT_TYPE][position]["simprint"] for entry in entries]
    for at in range(0, len(simprints), UNITS_PER_SEARCH):
        answer = client.search(index, {"simprints": {SIMPRINT_TYPE: simprints[at : at + UNITS_PER_SEARCH]}}, limit=1000)
        assert answer.status == 200, answer
        for match in answer.body["chunk_matches"]:
            (chunk,) = match["types"][SIMPRINT_TYPE]["chunks"]
            assert (chunk["score"], chunk["freq"], chunk["offset"]) == (1.0, 1, position), answer
            found.add(match["iscc_id"])
    return found


def _find(client: Client, index: str, units: list[str]) -> set[str]:
    found: set[str] = set()
    for at in range(0, len(units), UNITS_PER_SEARCH):
        answer = client.search(index, {"units": units[at : at + UNITS_PER_SEARCH]}, limit=1000)
        assert answer.status == 200, answer
        assert all(match["score"] == 1.0 for match in answer.body["global_matches"]), answer
        found.update(match["iscc_id"] for match in answer.body["global_matches"])
    return found


def all_graphs_built(port: int) -> bool:
    """True when there are segments and each has a graph that is searched."""
    now = engine_figures(port)
    return now["segment_rows"] == now["graph_rows"] > 0


def engine_figures(port: int) -> dict[str, int]:
    """What the engine holds and has done, as the metrics say it."""
    samples = metrics(port).items()
    return {name.removeprefix(ENGINE).removesuffix(COUNTER): int(value) for name, value in samples if name.startswith(ENGINE)}
