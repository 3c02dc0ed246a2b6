"""What a process leaves for the next one when it cannot go on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from service.boot.ended import NOTE, Failures
from tests.system.client import metrics
from tests.system.damage import cut
from tests.system.estate import REMOTE, Estate, end_of, fill, is_acknowledged, new_entry, start_in_vain

CORRUPT, FENCED = 4, 5


def test_the_next_process_knows(tmp_path: Path) -> None:
    """What, when, in which state, and how many in a row were of no use."""
    assert Failures(tmp_path).last is None
    Failures(tmp_path, lambda: 1.0).note(6, "restoring", "no answer", served=False)
    Failures(tmp_path, lambda: 2.0).note(6, "restoring", "no answer", served=False)
    last = Failures(tmp_path).last
    assert last is not None
    assert (last.at, last.code, last.before, last.reason, last.starts) == (2.0, 6, "restoring", "no answer", 2)
    Failures(tmp_path, lambda: 3.0).note(4, "opening", "damaged", served=False)
    last = Failures(tmp_path).last
    assert last is not None
    assert (last.code, last.before, last.starts, last.times) == (4, "opening", 1, {6: 2.0, 4: 3.0})


def test_a_row_ends_with_a_process_that_served(tmp_path: Path) -> None:
    """Whether it ends well later or not. The failure itself stays known."""
    Failures(tmp_path, lambda: 1.0).note(4, "restoring", "damaged", served=False)
    ready = Failures(tmp_path)
    ready.end_row()
    assert ready.last is not None
    assert Failures(tmp_path).last == ready.last
    assert (ready.last.at, ready.last.code, ready.last.starts) == (1.0, 4, 0)
    Failures(tmp_path).note(4, "restoring", "damaged", served=False)
    Failures(tmp_path).note(5, "ready", "has a new owner", served=True)
    last = Failures(tmp_path).last
    assert last is not None
    assert (last.code, last.starts) == (5, 0)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"at": "yesterday"}'])
def test_a_note_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NOTE).write_bytes(content)
    assert Failures(tmp_path).last is None


def test_a_disk_that_takes_nothing_hinders_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A process that cannot go on has to end."""
    failures = Failures(tmp_path / "gone")
    failures.note(1, "opening", "no room", served=False)
    failures.end_row()
    assert failures.last is not None
    assert not (tmp_path / "gone").exists()
    assert NOTE in caplog.text


def test_restores_that_fail_are_counted_until_one_does_not(tmp_path: Path) -> None:
    """By the metric that the alert asks for, also when nobody asked while they lived."""
    estate = fill(tmp_path / "estate").without_live()
    blobs = [path for path in (estate.bucket / "v1" / "blobs").rglob("*") if path.is_file()]
    whole = {path: path.read_bytes() for path in blobs}
    for path in blobs:
        cut(path)
    for _ in range(2):
        assert start_in_vain(estate.server())[0] == CORRUPT
    last = Failures(estate.data).last
    assert last is not None
    assert (last.code, last.before, last.starts) == (CORRUPT, "restoring", 2)
    for path, content in whole.items():
        path.write_bytes(content)
    with estate.server() as server:
        told = metrics(server.port)
        assert told['tidepool_failed_starts{before="restoring"}'] == 0
        assert told['tidepool_last_failure_timestamp_seconds{code="4"}'] == pytest.approx(last.at, abs=0.01)
        assert '"message":"the last failure on this disk"' in server.log()


def test_a_process_that_was_fenced_tells_the_one_that_takes_the_bucket_back(tmp_path: Path) -> None:
    """The code stands in a metric of a process that lives, and so does the file of what was not shipped."""
    old = fill(tmp_path / "old")
    new = Estate(tmp_path / "new")
    new.bucket = old.bucket
    with old.server(LOG_INTERVAL=60) as first:
        assert is_acknowledged(first, new_entry(1))
        with new.server() as second:
            assert second.stop() == 0
        assert not is_acknowledged(first, new_entry(2), REMOTE)
        assert end_of(first)[0] == FENCED
    with old.server() as first:
        told = metrics(first.port)
        assert time.time() - told['tidepool_last_failure_timestamp_seconds{code="5"}'] < 600
        assert told['tidepool_failed_starts{before="ready"}'] == 0
        assert told["tidepool_unshipped_files"] == 1
