"""The start-up table with real processes: what this disk and the bucket have decides, and the last words say the way out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from snapshots.mark import read_mark
from snapshots.unshipped import read_unshipped
from tests.stores import moto_store
from tests.system.client import Client
from tests.system.estate import (
    INDEX,
    REMOTE,
    Estate,
    end_of,
    fill,
    is_acknowledged,
    new_entry,
    prune_log,
    require_entries,
    require_goes_on,
    start_in_vain,
    tree,
)
from tests.system.frozen import thaw, wait_frozen
from tests.system.server import wait_until

STOPPED, FENCED, REFUSED = 0, 5, 78
ADOPT = (
    "they are not the same index. Check ISCC_SEARCH_INDEX_URI and ISCC_SEARCH_SNAPSHOT_URL; to go on with one of them, start once with "
    "`tidepool serve --adopt-remote` (the data here is set aside) or `tidepool serve --adopt-local` (the lineage in the bucket ends and "
    "stays readable)"
)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Estate:
    return fill(tmp_path_factory.mktemp("filled"))


@pytest.fixture
def estate(filled: Estate, tmp_path: Path) -> Estate:
    """A copy, to be lost in part."""
    return filled.copy(tmp_path / "estate")


def lineage(estate: Estate) -> str:
    mark = read_mark(estate.data / "live")
    assert mark is not None
    return mark.lineage


def set_aside(estate: Estate, why: str) -> Path:
    (found,) = estate.data.glob(f"live.{why}-*")
    assert (found / "data.mdb").stat().st_size > 0
    return found


def test_a_first_start_in_a_store_needs_permission(tmp_path: Path) -> None:
    """An empty prefix in S3 may be a wrong name: the start is refused, with and without data. Allowed once, the index comes back."""
    estate = Estate(tmp_path)
    with moto_store() as store:
        store_url = store.url
        settings = {"SNAPSHOT_URL": store_url, "environment": store.environment}
        empty = (
            f"{store_url} is empty, and {{}}: a first start needs permission, so that a wrong name cannot look like an empty "
            "index. Check ISCC_SEARCH_SNAPSHOT_URL; if it is right, run `tidepool snapshot init` once, or set "
            "ISCC_SEARCH_SNAPSHOT_MISSING=create"
        )
        assert start_in_vain(estate.server(**settings)) == (REFUSED, empty.format("there is no data here either"))
        assert not (estate.data / "live").exists()
        with estate.server(SNAPSHOT_URL="none") as server, Client(server.port) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, [new_entry(1)]).status == 201
        assert start_in_vain(estate.server(**settings)) == (REFUSED, empty.format("the data here was never published"))
        with estate.server(**settings, SNAPSHOT_MISSING="create") as server, Client(server.port, headers=REMOTE) as client:
            assert client.add(INDEX, [new_entry(2)]).status == 201
            server.kill()
        with estate.without_disk().server(**settings) as server:
            require_entries(server, [new_entry(1), new_entry(2)])


def test_a_directory_is_allowed_to_be_empty(tmp_path: Path) -> None:
    """Data that was never published goes into an empty bucket on the same disk without a question, and is restored from there."""
    estate = Estate(tmp_path)
    with estate.server(SNAPSHOT_URL="none") as server, Client(server.port) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(1)]).status == 201
        server.kill()
    with estate.server() as server:
        require_entries(server, [new_entry(1)])
        server.kill()
    with estate.without_disk().server() as server:
        require_entries(server, [new_entry(1)])
        require_goes_on(server, estate.prefix, 2)


def test_of_two_first_starts_the_later_one_restores(tmp_path: Path) -> None:
    """Both found an empty prefix. The one that comes too late ends as fenced, and its disk holds nothing: its next start takes what the
    other published, without a question. One request in it would be a question."""
    late, early = Estate(tmp_path / "late"), Estate(tmp_path / "early")
    early.bucket = late.bucket
    first = late.server(environment={"TIDEPOOL_FAILPOINTS": "restore.switched=stop"})
    first.start()
    try:
        wait_frozen(first)
        with early.server() as second, Client(second.port, headers=REMOTE) as client:
            client.create_index(INDEX)
            assert client.add(INDEX, [new_entry(1)]).status == 201
            thaw(first)
            assert end_of(first)[0] == FENCED
            written = require_goes_on(second, early.prefix, 2)
            assert second.stop() == STOPPED
    finally:
        first.end()
    with late.server() as again:
        require_entries(again, [new_entry(1), written])
        require_goes_on(again, late.prefix, 3)
    set_aside(late, "blank")


def test_an_emptied_bucket_is_refused(estate: Estate) -> None:
    """Emptied or wrongly named: this disk says that it was published, and publishes nothing by itself. `--adopt-local` does."""
    other = estate.root / "othername"
    assert start_in_vain(estate.server(SNAPSHOT_URL=other.as_uri())) == (REFUSED, published_words(estate, other))
    shutil.rmtree(estate.bucket)
    assert start_in_vain(estate.server()) == (REFUSED, published_words(estate, estate.bucket))
    assert tree(estate.bucket) == {}
    before = lineage(estate)
    with estate.server(arguments=["--adopt-local"]) as server:
        require_entries(server, estate.everything)
        assert lineage(estate) != before
    with estate.without_disk().server() as server:
        require_entries(server, estate.everything)
        require_goes_on(server, estate.prefix, 1)


def published_words(estate: Estate, bucket: Path) -> str:
    return (
        f"this disk was published (lineage {lineage(estate)}), but {bucket.as_uri()} is empty: it was emptied or the name is wrong. "
        "Check ISCC_SEARCH_SNAPSHOT_URL; to publish what is here anew, start once with `tidepool serve --adopt-local`"
    )


@pytest.fixture
def stranger(estate: Estate, tmp_path: Path) -> Estate:
    """Another index, whose data stands where the bucket of `estate` is configured."""
    other = Estate(tmp_path / "other")
    with other.server() as server, Client(server.port, headers=REMOTE) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(7)]).status == 201
        server.kill()
    shutil.rmtree(other.bucket)
    other.bucket = estate.bucket
    return other


def test_another_lineage_is_refused(estate: Estate, stranger: Estate) -> None:
    """Neither overwrites the other. `--adopt-remote` sets the data aside and takes the bucket's."""
    before, theirs = tree(estate.bucket), lineage(estate)
    code, words = start_in_vain(stranger.server())
    assert (code, words) == (
        REFUSED,
        f"the data here belongs to lineage {lineage(stranger)}, but {estate.bucket.as_uri()} holds lineage {theirs}: {ADOPT}",
    )
    assert tree(estate.bucket) == before
    with stranger.server(arguments=["--adopt-remote"]) as server:
        require_entries(server, estate.shipped)
        require_goes_on(server, estate.prefix, 1)
    set_aside(stranger, "left")


def test_the_data_here_replaces_another_lineage_when_asked(estate: Estate, stranger: Estate) -> None:
    """`--adopt-local` publishes what is here as the newest generation; what was there stays, and its owner cannot go on."""
    before = tree(estate.bucket)
    with estate.server() as old, stranger.server(arguments=["--adopt-local"]) as server:
        require_entries(server, [new_entry(7)])
        assert not is_acknowledged(old, new_entry(8), REMOTE)
        assert end_of(old)[0] == FENCED
        require_goes_on(server, estate.prefix, 1)
    after = tree(estate.bucket)
    assert [name for name in before if name != "v1/HEAD.json" and after.get(name) != before[name]] == []
    with stranger.without_disk().server() as server:
        require_entries(server, [new_entry(7), new_entry(1)])


def test_data_that_was_never_published_does_not_meet_a_lineage(estate: Estate) -> None:
    """A bucket that holds an index is not mixed with data that knows nothing of it, were it one request."""
    theirs = lineage(estate)
    with estate.without_disk().server(SNAPSHOT_URL="none") as server, Client(server.port) as client:
        client.create_index("other")
    words = f"the data here was never published, but {estate.bucket.as_uri()} holds lineage {theirs}: {ADOPT}"
    assert start_in_vain(estate.server()) == (REFUSED, words)


def test_a_stale_disk_catches_up(estate: Estate, tmp_path: Path) -> None:
    """An old copy of the data directory replays what the log has more, and owns the prefix again."""
    with estate.server() as server:
        assert server.stop() == STOPPED
    stale = estate.copy(tmp_path / "stale")
    with estate.server() as server:
        written = require_goes_on(server, estate.prefix, 1)
    stale.bucket = estate.bucket
    with stale.server() as server:
        require_entries(server, [*estate.everything, written])
        require_goes_on(server, estate.prefix, 2)
    assert list(stale.data.glob("live.*")) == []


def test_a_stale_disk_whose_log_was_pruned_is_restored(estate: Estate, tmp_path: Path) -> None:
    """When the log behind its mark is gone, the base is fetched; what was here is set aside."""
    with estate.server() as server:
        assert server.stop() == STOPPED
    stale = estate.copy(tmp_path / "stale")
    with estate.server() as server:
        written = require_goes_on(server, estate.prefix, 1)
    assert prune_log(estate.prefix) > 0
    stale.bucket = estate.bucket
    with stale.server() as server:
        require_entries(server, [*estate.everything, written])
        require_goes_on(server, estate.prefix, 2, days=60)
    set_aside(stale, "old")


def test_a_disk_that_went_another_way_keeps_its_rows_in_a_file(estate: Estate, tmp_path: Path) -> None:
    """Unshipped rows meet other rows in the bucket: they are written to a file, the data is set aside, the bucket's state is restored."""
    other = estate.copy(tmp_path / "other").without_disk()
    other.bucket = estate.bucket
    with other.server() as server:
        written = require_goes_on(server, estate.prefix, 1)
    with estate.server() as server:
        require_entries(server, [*estate.shipped, written], [])
        require_goes_on(server, estate.prefix, 2)
        (saved,) = estate.data.glob("*.fenced-*.log")
        assert f"writes that never reached the bucket are kept in {saved}: `tidepool snapshot show {saved}`" in server.log()
        assert f"the data that was here is set aside as {set_aside(estate, 'fenced')}: row " in server.log()
    rows = read_unshipped(saved).rows
    assert len(rows) == len(estate.late)
    assert saved.name.startswith(f"{rows[0].sequence}-{rows[-1].sequence}.fenced-")


def test_a_bucket_that_was_brought_back_from_a_copy_is_refused(estate: Estate, tmp_path: Path) -> None:
    """It ends before what this disk shipped, or goes on with something else under the same number: nobody guesses which is right."""
    backup = estate.copy(tmp_path / "backup")
    with estate.server() as server:
        require_goes_on(server, estate.prefix, 1)
        assert server.stop() == STOPPED
    mark = read_mark(estate.data / "live")
    assert mark is not None
    ahead = estate.copy(tmp_path / "ahead")
    ahead.bucket = backup.bucket
    words = (
        f"the log of lineage {mark.lineage} in {backup.bucket.as_uri()} is not the one that this disk knows: {{}}. The bucket was changed "
        "by something else than tidepool, or brought back from a copy. Find out which is right; start once with `tidepool serve "
        "--adopt-remote` to take the bucket's, or with `tidepool serve --adopt-local` to take what is here (the lineage in the bucket ends "
        "and stays readable)"
    )
    missing = f"log object {mark.log.number}, which this disk shipped, is not there"
    assert start_in_vain(ahead.server()) == (REFUSED, words.format(missing))
    with backup.without_disk().server() as server, Client(server.port, headers=REMOTE) as client:
        for number in range(mark.log.number):
            assert client.add(INDEX, [new_entry(100 + number)]).status == 201
    other = f"log object {mark.log.number} ends with {backup.prefix.log_digest(mark.lineage, mark.log.number)}"[:-48]
    assert start_in_vain(ahead.server()) == (REFUSED, words.format(f"{other}, this disk knows {mark.log.digest[:16]}"))
    with ahead.server(arguments=["--adopt-remote"]) as server:
        require_entries(server, [*estate.shipped, *(new_entry(100 + number) for number in range(mark.log.number))])
    set_aside(ahead, "left")


def test_an_emptied_directory_is_filled_from_the_bucket_inside_it(tmp_path: Path) -> None:
    """The default bucket stands beside the data: whoever empties one gets it back, with a warning that names both."""
    estate = Estate(tmp_path)
    estate.bucket = estate.data / "bucket"
    with estate.server(SNAPSHOT_URL="") as server, Client(server.port, headers=REMOTE) as client:
        client.create_index(INDEX)
        assert client.add(INDEX, [new_entry(1)]).status == 201
        server.kill()
        estate.without_live()
        server.restart()
        require_entries(server, [new_entry(1)])
        live = estate.data / "live"
        assert f"{live} has no data and is restored from {estate.bucket}; to start empty instead, stop and remove both" in server.log()


def test_nothing_is_claimed_by_reading(estate: Estate) -> None:
    """A start that was refused leaves the mark as it was: the same disk starts at the right bucket."""
    other = estate.root / "othername"
    assert start_in_vain(estate.server(SNAPSHOT_URL=other.as_uri()))[0] == REFUSED
    with estate.server() as server:
        require_entries(server, estate.everything)
        wait_until(lambda: is_shipped(estate), 10, "the rest to be shipped")
    with estate.without_disk().server() as server:
        require_entries(server, estate.everything)


def is_shipped(estate: Estate) -> bool:
    """The index, two requests, and one for each that was late."""
    mark = read_mark(estate.data / "live")
    return mark is not None and mark.log.sequence == 3 + len(estate.late)
