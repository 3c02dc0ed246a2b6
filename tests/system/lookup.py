"""Looking up many unique entries at once, and what the engine says about itself."""

from __future__ import annotations

from tests.system.client import Client, metrics
from tests.system.model import Entry

UNITS_PER_SEARCH = 64  # as many as one search may have
ENGINE = "tidepool_engine_"
COUNTER = "_total"


def find_wholly(client: Client, index: str, entries: list[Entry]) -> set[str]:
    """ISCC-IDs of what is found by the units of unique entries. Fails on an asset that one of its units finds and another does not.

    One unit type at a time: in a search by all of them an asset that is missing from the codes of one type would be found by another.
    """
    found = [_find(client, index, [entry["units"][position] for entry in entries]) for position in range(4)]
    assert found[0] == found[1] == found[2] == found[3], "an asset is found by some of its units only"
    return found[0]


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
