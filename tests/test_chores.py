"""What is done on a schedule: when it is due, what a failure does to the others, the sign of life."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from service.boot.chores import Chores, Schedule
from service.boot.commands.owning import Owned, owned
from service.boot.commands.told import opened_prefix
from service.boot.jobs import Job
from service.boot.terms import options
from service.engine.errors import Damaged
from service.engine.files import DirectoryLock
from service.engine.requests import CreateIndex
from snapshots.damaged import Noted, noted
from snapshots.errors import NoRoom, Refused
from snapshots.files import sha256
from snapshots.paths import MANIFESTS, blob_key, log_key, manifest_key
from tests.commanding import Place, commit
from tests.snapshots.fakes import deaths, dying_at
from tests.system.server import wait_until

ALWAYS = 1e-9
NEVER = 0.0


@contextmanager
def chores(place: Place, schedule: Schedule) -> Iterator[tuple[Owned, Chores]]:
    """The owner of a prefix, with chores on this schedule."""
    place.directory.mkdir(exist_ok=True)
    with (
        opened_prefix(place.settings, make=True) as prefix,
        DirectoryLock(place.directory) as lock,
        owned(place.settings, prefix, lock) as found,
    ):
        yield found, Chores(found.keeper, place.directory, options(place.settings), schedule, lambda *_: None)


def job(of: Chores, name: str) -> Job:
    return next(each for each in of.jobs() if each.name == name)


@contextmanager
def listener() -> Iterator[tuple[str, list[str]]]:
    """A server that writes down what it is asked for."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the library
            """Quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/alive", heard
        finally:
            server.shutdown()
            thread.join()


def test_the_sign_of_life_stops_when_the_bucket_is_in_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent while the bucket has everything, and not while shipping fails."""
    place = Place(tmp_path, monkeypatch, LOG_INTERVAL=0.05)
    with listener() as (url, heard), chores(place, Schedule(NEVER, NEVER, url)) as (found, done):
        job(done, "heartbeat").run()
        assert heard == ["/alive"]
        place.bucket.rename(place.bucket.with_name("away"))
        found.engine.commit([CreateIndex("new")])
        try:
            wait_until(lambda: found.keeper.shipper.trouble is not None or found.keeper.lag_s() > 0, 10, "trouble")
            monkeypatch.setattr("service.boot.chores.HEARTBEAT_LAG_S", 0.0)
            job(done, "heartbeat").run()
        finally:
            place.bucket.with_name("away").rename(place.bucket)
        assert heard == ["/alive"]


def test_damage_is_counted_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is gone is found by the next check, and by the next drill; both results outlive the process."""
    place = Place(tmp_path, monkeypatch)
    with chores(place, Schedule(ALWAYS, ALWAYS, "")) as (found, done):
        found.engine.commit([CreateIndex("a")])
        manifest = found.keeper.checkpoint().manifest
        job(done, "verify").run()
        job(done, "drill").run()
        assert (done.done.verify_failures, done.done.drill_failures) == (0, 0)
        (place.bucket / blob_key(manifest.files[0].pieces[0])).unlink()
        done.verify()
        done.drill()
        again = Chores(found.keeper, place.directory, options(place.settings), Schedule(NEVER, NEVER, ""), lambda *_: None)
    assert (again.done.verify_failures, again.done.drill_failures) == (1, 1)
    assert 0 < again.done.verified_good_at < again.done.verified_at
    assert 0 < again.done.drilled_good_at < again.done.drilled_at
    assert manifest.files[0].pieces[0] in again.done.verify_problems[0]
    assert again.done.drilled is not None
    assert manifest.files[0].pieces[0] in again.done.drilled.problems[0]


@pytest.mark.parametrize("finder", ["verify", "drill"])
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(bytes(path.stat().st_size))], ids=["missing", "wrong"])
def test_damage_in_the_newest_checkpoint_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: str, damage: Callable[[Path], object]
) -> None:
    """What a check or a drill found is written again by a checkpoint that is due at once, though nothing was written; then all is well."""
    place = Place(tmp_path, monkeypatch)
    monkeypatch.setattr("service.boot.chores.VERIFY_SHARE", 1.0)
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        found.engine.commit([CreateIndex("a")])
        manifest = found.keeper.checkpoint().manifest
        (blob,) = manifest.files[0].pieces
        damage(place.bucket / blob_key(blob))
        assert found.keeper.due() == ""
        done.verify(1.0) if finder == "verify" else done.drill()
        assert "missing in the bucket or wrong" in found.keeper.due()
        found.keeper.checkpoint_if_due()
        assert found.keeper.newest.generation == manifest.generation + 1
        assert found.keeper.due() == ""
        if finder == "verify":
            monkeypatch.setattr("service.boot.chores.RETRY_S", 0.0)
            job(done, "verify").run()
            assert done.done.verified_generation == manifest.generation + 1
        assert done.done.verify_problems == []
        assert done.drill().problems == []
        assert found.keeper.newest.pieces == {blob}
        assert sha256((place.bucket / blob_key(blob)).read_bytes()) == blob


@pytest.mark.parametrize("finder", ["verify", "drill", "prune", "command"])
def test_damage_is_known_to_the_next_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: str) -> None:
    """Whoever found it: the process that serves next mends it, also when the first one was killed within the checkpoint that would have."""
    place = Place(tmp_path, monkeypatch)
    monkeypatch.setattr("service.boot.chores.VERIFY_SHARE", 1.0)
    monkeypatch.setattr("service.boot.chores.RETRY_S", 0.0)
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        found.engine.commit([CreateIndex("a")])
        (blob,) = found.keeper.checkpoint().manifest.files[0].pieces
        (place.bucket / blob_key(blob)).unlink()
        match finder:
            case "command":
                ran = place.run("verify")
                assert ran.code == 4
                assert "what the newest checkpoint needs, the next one of a running service puts right" in ran.out
            case name:
                getattr(done, name)()
        assert "missing in the bucket or wrong" in found.keeper.due()
        with deaths():
            dying_at("publish.hint", found.keeper.checkpoint_if_due)
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        assert "missing in the bucket or wrong" in found.keeper.due()
        found.keeper.checkpoint_if_due()
        assert found.keeper.due() == ""
        assert sha256((place.bucket / blob_key(blob)).read_bytes()) == blob
        job(done, "verify").run()
        assert done.done.verify_problems == []
        assert noted(place.directory) == Noted()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["missing", "damaged"])
@pytest.mark.parametrize("finder", ["verify", "drill"])
def test_a_log_that_broke_behind_the_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], finder: str
) -> None:
    """The newest state cannot be restored: a check finds it, another checkpoint is due at once, and then it can be restored."""
    place = Place(tmp_path, monkeypatch, LOG_INTERVAL=0.05)
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        commit(found, CreateIndex("a"))
        found.keeper.checkpoint()
        first = found.keeper.shipper.mark.log
        for name in ("b", "c"):
            commit(found, CreateIndex(name))
            found.keeper.wait_shipped(found.engine.sequence)
        spoil(place.bucket / log_key(found.keeper.newest.lineage, first.number + 1))
        assert found.keeper.due() == ""
        done.verify() if finder == "verify" else done.drill()
        assert "the log behind the newest checkpoint cannot be read" in found.keeper.due()
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        assert "the log behind the newest checkpoint cannot be read" in found.keeper.due()
        assert done.drill().problems
        found.keeper.checkpoint_if_due()
        assert found.keeper.due() == ""
        assert done.drill().problems == []
        assert noted(place.directory) == Noted()


@pytest.mark.parametrize("finder", ["verify", "drill"])
def test_a_lost_end_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finder: str) -> None:
    """The last objects are gone, and the hint is older than they were: the owner knows what it shipped. Another checkpoint is due at once,
    and a drill of that finds nothing wrong."""
    place = Place(tmp_path, monkeypatch, LOG_INTERVAL=0.05)
    with chores(place, Schedule(ALWAYS, ALWAYS, "")) as (found, done):
        commit(found, CreateIndex("a"))
        found.keeper.checkpoint()
        for name in ("b", "c"):
            commit(found, CreateIndex(name))
            found.keeper.wait_shipped(found.engine.sequence)
        last = found.keeper.shipper.mark.log.number
        for number in (last - 1, last):
            (place.bucket / log_key(found.keeper.newest.lineage, number)).unlink()
        job(done, finder).run()
        if finder == "drill":
            assert done.done.drilled is not None
            assert "the log ends at request 1, request 3 was never written" in done.done.drilled.problems[0]
            assert (done.done.drill_failures, done.done.drilled_good_at) == (1, 0.0)
        assert "the log behind the newest checkpoint cannot be read" in found.keeper.due()
        found.keeper.checkpoint_if_due()
        assert found.keeper.due() == ""
        assert done.drill().problems == []
        assert noted(place.directory) == Noted()


@pytest.mark.parametrize("finder", ["verify", "drill", "prune"])
def test_damage_is_told_by_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, finder: str
) -> None:
    """Nothing can be noted or recorded there: the log and the metrics say it all the same."""
    place = Place(tmp_path, monkeypatch)

    def full(*_: object) -> None:
        raise NoRoom("no space left on device")

    with chores(place, Schedule(NEVER, NEVER, "")) as (found, done):
        commit(found, CreateIndex("a"))
        (blob,) = found.keeper.checkpoint().manifest.pieces
        (place.bucket / blob_key(blob)).unlink()
        monkeypatch.setattr("service.boot.chores.write_whole", full)
        monkeypatch.setattr(found.keeper, "mend", full)
        with caplog.at_level(logging.ERROR), pytest.raises(NoRoom):
            getattr(done, finder)()
    told = [str(each.__dict__) for each in caplog.records if each.message in ("the bucket is damaged", "drill")]
    assert len(told) == 1
    assert blob in told[0]
    match finder:
        case "verify":
            assert done.done.verify_problems
        case "drill":
            assert done.done.drilled is not None
            assert done.done.drilled.problems
        case _:
            assert done.done.pruned_generation == found.keeper.newest.generation


def test_a_check_follows_when_a_broken_log_was_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the next process, whose claim has put nothing right."""
    place = Place(tmp_path, monkeypatch, LOG_INTERVAL=0.05)
    monkeypatch.setattr("service.boot.chores.RETRY_S", 0.0)
    schedule = Schedule(3600, NEVER, "")
    with chores(place, schedule) as (found, done):
        commit(found, CreateIndex("a"))
        first = found.keeper.checkpoint().manifest
        for name in ("b", "c"):
            commit(found, CreateIndex(name))
            found.keeper.wait_shipped(found.engine.sequence)
        (place.bucket / log_key(first.lineage, first.log.number + 1)).unlink()
        done.verify()
    for mended in (False, True):
        with chores(place, schedule) as (found, done):
            before = done.done.verified_at
            job(done, "verify").run()
            assert done.done.verified_at == before
            if not mended:
                continue
            found.keeper.checkpoint_if_due()
            job(done, "verify").run()
            assert done.done.verified_at > before
            assert not any("newest state" in each for each in done.done.verify_problems)


def test_no_check_follows_where_nothing_can_be_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither after a restart nor after a checkpoint: it would read the whole log for nothing."""
    place = Place(tmp_path, monkeypatch)
    monkeypatch.setattr("service.boot.chores.RETRY_S", 0.0)
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        commit(found, CreateIndex("a"))
        (blob,) = found.keeper.checkpoint().manifest.pieces
        commit(found, CreateIndex("b"))
        found.keeper.checkpoint()
        (place.bucket / blob_key(blob)).unlink()
        done.verify()
        assert len(done.done.verify_problems) == 1
        at = done.done.verified_at
    with chores(place, Schedule(3600, NEVER, "")) as (found, done):
        for name in ("c", "d"):
            job(done, "verify").run()
            assert done.done.verified_at == at
            commit(found, CreateIndex(name))
            found.keeper.checkpoint()
    with chores(place, Schedule(3600, NEVER, "")) as (_, done):
        job(done, "verify").run()
        assert done.done.verified_at == at


def test_damage_of_what_nobody_names_any_more_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it is not there either: a wrong blob that is still there must not be taken for a good one by the next checkpoint."""
    place = Place(tmp_path, monkeypatch)
    with chores(place, Schedule(NEVER, NEVER, "")) as (found, done):
        commit(found, CreateIndex("a"))
        old = found.keeper.checkpoint().manifest
        (blob,) = old.pieces
        commit(found, CreateIndex("b"))
        found.keeper.checkpoint()
        (place.bucket / blob_key(blob)).write_bytes(b"wrong")
        known = Noted(frozenset({blob}))
        done.verify(1.0)
        assert noted(place.directory) == known
        (place.bucket / manifest_key(old.generation)).unlink()
        done.verify(1.0)
        assert done.done.verify_problems == []
        assert noted(place.directory) == known
        (place.bucket / blob_key(blob)).unlink()
        done.verify(1.0)
        assert noted(place.directory) == Noted()


def test_a_copy_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is what a drill is for: it is recorded, however the engine says so."""
    place = Place(tmp_path, monkeypatch)

    def damaged(*_: object, **__: object) -> None:
        raise Damaged("LMDB cannot be opened")

    with chores(place, Schedule(NEVER, ALWAYS, "")) as (found, done):
        commit(found, CreateIndex("a"))
        monkeypatch.setattr("service.boot.drill.restore_to", damaged)
        assert done.drill().problems == ["LMDB cannot be opened"]
    assert done.done.drill_failures == 1


def test_one_failure_keeps_no_other_from_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that cannot be read stops pruning for a while; checks go on and tell of it."""
    place = Place(tmp_path, monkeypatch)
    with chores(place, Schedule(ALWAYS, NEVER, "")) as (found, done):
        found.engine.commit([CreateIndex("a")])
        found.keeper.checkpoint()
        next((place.bucket / MANIFESTS).iterdir()).write_bytes(b"torn")
        monkeypatch.setattr("service.boot.chores.PRUNE_S", -1.0)
        done.done.pruned_generation = 0
        with pytest.raises(Exception, match="manifest"):
            job(done, "prune").run()
        job(done, "prune").run()  # not again so soon
        job(done, "verify").run()
        assert any("manifests/" in problem for problem in done.done.verify_problems)


def test_a_store_that_keeps_unfinished_uploads_is_warned_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Pruning goes on without it."""

    def refuse(*_: object) -> int:
        raise Refused("AccessDenied")

    place = Place(tmp_path, monkeypatch)
    with chores(place, Schedule(NEVER, NEVER, "")) as (found, done), caplog.at_level(logging.WARNING):
        found.engine.commit([CreateIndex("a")])
        found.keeper.checkpoint()
        monkeypatch.setattr(found.keeper.prefix.bucket, "abort_uploads", refuse)
        for _ in range(2):
            done.prune()
        assert done.done.pruned_generation == found.keeper.newest.generation
    assert [each.message for each in caplog.records].count(
        "unfinished uploads stay in the store: a rule of the bucket must remove them"
    ) == 1


def test_nothing_is_due_at_a_first_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first check comes after its interval, and an index that nobody changes is not looked at."""
    place = Place(tmp_path, monkeypatch)
    with chores(place, Schedule(3600, 3600, "")) as (_, done):
        for each in done.jobs():
            each.run() if each.interval_s else None
        assert (done.done.verified_generation, done.done.drilled) == (0, None)
