"""`tidepool snapshot pin`, `unpin`, `prune` and `gc`: plans, what they do, and nothing before somebody says so."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from tests.commanding import Place, blobs, filled, iso, require_error, tree
from tests.snapshots.prefixes import DAY_US, HOUR_US, Maker

NOTHING_SWEPT = {"listed": 0, "deleted": 0, "deleted_bytes": 0, "spared": [], "undeleted": [], "aborted": 0, "unaborted": ""}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An empty one."""
    return Place(tmp_path, monkeypatch)


def test_pins(place: Place) -> None:
    """Made, shown, once more, refused under a taken name, removed at once."""
    filled(place)
    assert place.run("pin", "release-1").out == "generation 2 is kept until it is removed, by the pin release-1\n"
    assert place.run("pin", "release-1", 2).code == 0
    assert place.run("list", "--json").json[1]["pinned_by"] == ["release-1"]
    day_us = place.run("pin", "tomorrow", 2, "--expires", "1", "--json").json["expires_us"]
    assert abs(day_us - (time.time() + 86_400) * 1e6) < 60e6
    dated = place.run("pin", "dated", 2, "--expires", "2100-01-02", "--json").json
    assert iso(dated["expires_us"]) == "2100-01-02T00:00:00Z"
    require_error(place.run("pin", "dated", 2, "--expires", "3"), 78, "holds generation 2 already")
    require_error(place.run("pin", "past", 2, "--expires", "2001-01-01"), 78, "would have expired already")
    require_error(place.run("pin", "Not A Name", 2), 78, "a pin cannot be called")
    require_error(place.run("pin", "other", 9), 3, "has no generation 9")
    assert place.run("unpin", "release-1").code == 0
    assert place.run("list", "--json").json[1]["pinned_by"] == ["dated", "tomorrow"]
    require_error(place.run("unpin", "release-1"), 3, "has no pin release-1")


def aged(root: Path) -> tuple[Maker, str]:
    """Three days of a checkpoint an hour, up to now; and its URL."""
    now_us = time.time_ns() // 1000
    made = Maker(root, now_us - 3 * DAY_US)
    made.begin(now_us - 3 * DAY_US)
    for hour in range(3 * 24 + 1):
        made.ship(now_us - (72 - hour) * HOUR_US)
        made.checkpoint(now_us - (72 - hour) * HOUR_US)
    return made, root.as_uri()


def test_prune(place: Place) -> None:
    """A plan that says what goes, what stays and why; nothing is deleted before --apply; the settings decide."""
    made, url = aged(place.bucket)
    before = tree(place.bucket)
    dry = place.run("prune", "--bucket", url)
    assert (dry.code, tree(place.bucket)) == (0, before)
    assert re.search(r"^generation 3 +\S+ \S+ +no span of the retention asks for it$", dry.out, re.MULTILINE)
    assert re.search(rf"^generation {made.newest.generation} +newest, last hour, ", dry.out, re.MULTILINE)
    assert dry.out.endswith("nothing was deleted: --apply does it\n")
    planned = place.run("prune", "--json").json
    assert (planned["done"], tree(place.bucket)) == (None, before)
    more = place.run("prune", "--json", SNAPSHOT_WINDOW=10 * 86_400, SNAPSHOT_KEEP="24,7,4").json["plan"]
    assert (more["manifests"], more["log"]) == ([], []), "a window of ten days keeps all"
    fewer = place.run("prune", "--json", SNAPSHOT_KEEP="0,0,0").json["plan"]
    assert len(fewer["manifests"]) > len(planned["plan"]["manifests"]) > 10
    done = place.run("prune", "--apply", "--json").json["done"]
    assert done["manifests"] == len(planned["plan"]["manifests"])
    assert done["log_objects"] == len(planned["plan"]["log"]) > 10
    assert (done["spared"], done["undeleted"]) == ([], [])
    again = place.run("prune")
    assert again.out.startswith("goes: nothing\n")


def test_gc(place: Place) -> None:
    """Found first, deleted by a later run; dry runs change nothing; a blob that is missing is a loss, with 4."""
    aged(place.bucket)
    place.run("prune", "--apply")
    before = tree(place.bucket)
    dry = place.run("gc", "--json")
    found = len(dry.json["plan"]["found"])
    assert (dry.code, dry.json["done"], tree(place.bucket)) == (0, None, before)
    assert found > 10
    assert "nothing was deleted: --apply does it" in place.run("gc").out
    assert place.run("gc", "--apply", "--json").json["done"] == {**NOTHING_SWEPT, "listed": found}
    (listed,) = (place.bucket / "v1" / "garbage").iterdir()
    old_us = time.time_ns() // 1000 - 2 * DAY_US
    older = listed.rename(listed.with_name(f"{old_us:020d}{listed.name[20:]}"))
    os.utime(older, (old_us / 1e6, old_us / 1e6))
    ripe = place.run("gc", "--json").json["plan"]
    assert len(ripe["doomed"]) == found
    swept = place.run("gc", "--apply", "--json").json["done"]
    assert (swept["deleted"], swept["undeleted"]) == (found, [])
    assert place.run("verify", "--full").code == 0
    blobs(place.bucket)[0].unlink()
    lost = place.run("gc")
    assert lost.code == 4
    assert re.fullmatch(r"tidepool: blob [0-9a-f]{64} is named by a manifest and not in the bucket\n", lost.err)
