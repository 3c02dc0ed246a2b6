"""Looking up many unique entries at once, and what the engine says about itself."""

from __future__ import annotations

from tests.system.client import Client, metrics
from tests.system.model import Entry

ENTRIES_PER_SEARCH = 16  # of four units: as many as one search may have
ENGINE = "tidepool_engine_"


def find_wholly(client: Client, index: str, entries: list[Entry]) -> set[str]:
    """ISCC-IDs of what is found by the units of the entries. Fails on a match that is not one in all four units."""
    found: set[str] = set()
    for at in range(0, len(entries), ENTRIES_PER_SEARCH):
        part = entries[at : at + ENTRIES_PER_SEARCH]
        answer = client.search(index, {"units": [unit for entry in part for unit in entry["units"]]}, limit=1000)
        assert answer.status == 200, answer
        for match in answer.body["global_matches"]:
            assert match["score"] == 1.0, match
            assert list(match["types"].values()) == [1.0] * 4, match
            found.add(match["iscc_id"])
    return found


def all_graphs_built(port: int) -> bool:
    """True when there are segments and each has a graph that is searched."""
    now = metrics(port)
    return now[ENGINE + "segment_rows"] == now[ENGINE + "graph_rows"] > 0
