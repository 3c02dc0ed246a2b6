"""A copy is what the engine was at one sequence, whatever went on meanwhile, and leaves nothing behind that hinders."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import msgspec
import pytest

from service.engine.engine import Engine
from service.engine.errors import EngineError, NoSpace, Unwritable
from service.engine.export import Export, unfit
from service.engine.export import export as export_parts
from service.engine.journal import LogRecord
from service.engine.layout import FORMAT, LogRow, encode
from service.engine.opening import inspect
from service.engine.options import Options
from service.engine.requests import AddAssets, DeleteAsset, DeleteIndex, Request
from service.engine.store import Store
from tests.engine.building import CONTENT, META, SMALL, add, asset, create, do, flipped, key, opened, random_units, search, settle, unit
from tests.engine.history import KEPT, tables, whole_log
from tests.project import ROOT
from tests.system.strace import Strace

COPIES = 25
TINY = Options(segment_codes=16, disk_free_min_bytes=0, keep_log=True)


def filled(engine: Engine, count: int = 300, seed: int = 1) -> None:
    create(engine)
    rng = random.Random(seed)
    add(engine, *(asset(number, *random_units(rng)) for number in range(count)))
    settle(engine)


def files_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def restored(copy: Path, place: Path) -> Path:
    """A data directory whose files are copies of an export, as a restore makes them."""
    shutil.copytree(copy, place / "live")
    return place


def test_copy_holds_everything_and_only_what_it_says(tmp_path: Path) -> None:
    """The files, their sizes and digests, the sequence, the time and the counts; the sealed files are links."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
        last = whole_log(engine)[-1]
        export = engine.export(tmp_path / "copy")
        assert (export.sequence, export.time_us) == (last.sequence, last.time_us)
        assert export.counts == engine.counts()
        assert {name: count for name, count in export.counts.items() if "codes" not in name} == {
            "indexes": 1,
            "assets": 300,
            "assets/a": 300,
        }
        assert {count for name, count in export.counts.items() if "codes" in name} == {300}
        assert {file.path for file in export.files} == files_below(tmp_path / "copy")
        assert len(export.files) > 5
        for file in export.files:
            path = tmp_path / "copy" / file.path
            assert path.stat().st_size == file.size
            if file.path == "data.mdb":
                assert file.sha256 is None
            else:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
                assert path.samefile(tmp_path / "data" / "live" / file.path)
    assert inspect(restored(tmp_path / "copy", tmp_path / "new")).data == "whole"
    with opened(tmp_path / "new", KEPT) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        assert engine.counts() == export.counts


def test_copy_of_an_empty_engine(tmp_path: Path) -> None:
    """Nothing was written yet."""
    with opened(tmp_path / "data", KEPT) as engine:
        export = engine.export(tmp_path / "copy")
    assert (export.sequence, export.time_us, export.counts) == (0, 0, {"indexes": 0, "assets": 0})
    assert [file.path for file in export.files] == ["data.mdb"]
    with opened(restored(tmp_path / "copy", tmp_path / "new"), KEPT) as engine:
        assert engine.sequence == 0


def test_two_copies_beside_each_other(tmp_path: Path) -> None:
    """Done twice: each in a place of its own, each at its sequence."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
        first = engine.export(tmp_path / "one")
        do(engine, DeleteAsset("a", 0, key(7)))
        second = engine.export(tmp_path / "two")
    assert second.sequence == first.sequence + 1
    for name, count in (("one", 300), ("two", 299)):
        with opened(restored(tmp_path / name, tmp_path / ("new" + name)), KEPT) as engine:
            assert engine.index("a").assets == count


def wait_until(done: Callable[[], bool], worker: threading.Thread) -> None:
    while not done():
        assert worker.is_alive()
        threading.Event().wait(0.001)


class Model(NamedTuple):
    """What is stored at a sequence: the two codes of each asset."""

    assets: dict[int, tuple[bytes, bytes]]

    def best(self, header: tuple[int, int], query: bytes, limit: int) -> list[tuple[int, float]]:
        """Brute force: all assets compared with one unit."""
        at = (META, CONTENT).index(header)
        found = []
        for number, bodies in self.assets.items():
            similarity = 1 - (int.from_bytes(bodies[at], "big") ^ int.from_bytes(query, "big")).bit_count() / 64
            if similarity >= 0.75:
                found.append((number, similarity**3))
        return sorted(found, key=lambda match: (-match[1], match[0]))[:limit]


def model_at(log: list[LogRecord], sequence: int) -> Model:
    """From the log itself."""
    assets: dict[int, tuple[bytes, bytes]] = {}
    for row in log[:sequence]:
        request = msgspec.msgpack.decode(row.data, type=LogRow).request
        if isinstance(request, AddAssets):
            for added in request.assets:
                meta, content = added.units or []
                assets[int.from_bytes(added.key, "big")] = (meta[2:], content[2:])
        elif isinstance(request, DeleteAsset):
            del assets[int.from_bytes(request.key, "big")]
    return Model(assets)


def churn(engine: Engine, stop: threading.Event, centres: list[bytes]) -> None:
    """Adds, updates and deletes near a few centres, so that segments are sealed and rewritten all the time."""
    rng = random.Random(3)
    alive: set[int] = set()
    while not stop.is_set():
        numbers = rng.sample(range(200), 6)
        units = [[unit(header, flipped(rng.choice(centres), rng.randrange(20))) for header in (META, CONTENT)] for _ in numbers]
        add(engine, *(asset(number, *found) for number, found in zip(numbers, units, strict=True)))
        alive.update(numbers)
        gone = rng.sample(sorted(alive), min(3, len(alive)))
        do(engine, *(DeleteAsset("a", 0, key(number)) for number in gone))
        alive.difference_update(gone)


def test_copy_during_writing_sealing_and_rewriting_answers_as_brute_force(tmp_path: Path) -> None:
    """Each of many copies, at its own sequence."""
    rng = random.Random(4)
    centres = [rng.randbytes(8) for _ in range(8)]
    stop = threading.Event()
    exports: list[Export] = []
    with opened(tmp_path / "data", TINY) as engine:
        create(engine)
        engine.start_background()
        writer = threading.Thread(target=churn, args=(engine, stop, centres))
        writer.start()
        try:
            while len(exports) < COPIES:
                exports.append(engine.export(tmp_path / f"copy{len(exports)}"))
                wait_until(lambda: engine.sequence > exports[-1].sequence + 10, writer)
        finally:
            stop.set()
            writer.join()
        done = engine.stats().done
        log = whole_log(engine)
    assert done.segments_sealed > 10
    assert done.segments_rewritten > 10
    for number, export in enumerate(exports):
        model = model_at(log, export.sequence)
        assert export.time_us == log[export.sequence - 1].time_us
        with opened(restored(tmp_path / f"copy{number}", tmp_path / f"new{number}"), TINY) as engine:
            assert engine.sequence == export.sequence
            assert engine.stats().done.segments_rebuilt == 0
            assert engine.index("a").assets == len(model.assets)
            for header in (META, CONTENT):
                for centre in centres:
                    matches = search(engine, unit(header, centre), limit=50).matches
                    assert [(int.from_bytes(match.key, "big"), match.score) for match in matches] == model.best(header, centre, 50)


class Meddled:
    """A store of which others change much just before and just after it is copied, `times` times."""

    def __init__(self, engine: Engine, times: int) -> None:
        self.left = times
        self.copies = 0
        self._engine = engine

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine._store, name)

    def copy(self, target: Path) -> None:
        """A segment comes before the copy and goes after it."""
        self.copies += 1
        self.left -= 1
        if self.left < 0:
            self._engine._store.copy(target)
            return
        rng = random.Random(self.copies)
        numbers = range(1_000 * self.copies, 1_000 * self.copies + 40)
        add(self._engine, *(asset(number, unit(META, rng.randbytes(8))) for number in numbers))
        settle(self._engine)
        self._engine._store.copy(target)
        do(self._engine, *(DeleteAsset("a", 0, key(number)) for number in numbers))
        settle(self._engine)


def test_segment_that_came_and_went_during_the_copy_means_doing_it_again(tmp_path: Path) -> None:
    """The copy that counts names only files that are there."""
    with opened(tmp_path / "data", TINY) as engine:
        create(engine)
        store = Meddled(engine, times=3)
        export = export_parts(engine._parts._replace(store=cast(Store, store)), tmp_path / "copy")
        assert store.copies == 4
        assert export.sequence == engine.sequence
        assert {file.path for file in export.files} == files_below(tmp_path / "copy")
    with opened(restored(tmp_path / "copy", tmp_path / "new"), TINY) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        assert engine.counts() == export.counts


def test_copy_is_given_up_after_some_attempts(tmp_path: Path) -> None:
    """And nothing of it is left."""
    with opened(tmp_path / "data", TINY) as engine:
        create(engine)
        store = Meddled(engine, times=100)
        with pytest.raises(Unwritable, match="in 5 attempts"):
            export_parts(engine._parts._replace(store=cast(Store, store)), tmp_path / "copy")
        assert store.copies == 5
    assert not (tmp_path / "copy").exists()


def test_copy_and_the_log_behind_it_are_the_original(tmp_path: Path) -> None:
    """What a restore does: the base, then the rows after it."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
        export = engine.export(tmp_path / "copy")
        add(engine, asset(1, unit(META, bytes(8))), asset(1_000, unit(META, bytes(8))))
        do(engine, DeleteAsset("a", 0, key(5)))
        behind = engine.log_after(export.sequence, 1 << 30)
    with opened(restored(tmp_path / "copy", tmp_path / "new"), KEPT) as engine:
        engine.replay(behind)
    assert tables(tmp_path / "new") == tables(tmp_path / "data")


def test_graphs_are_part_of_the_copy(tmp_path: Path) -> None:
    """They are used again, not built; one that is not there is left out."""
    options = msgspec.structs.replace(KEPT, exact_max_codes=0)
    with opened(tmp_path / "data", options) as engine:
        filled(engine, 200)
        graphs = sorted(path.name for path in (tmp_path / "data" / "live" / "segments").glob("*.graph"))
        assert len(graphs) == engine.stats().graphs > 0
        export = engine.export(tmp_path / "copy")
        assert sorted(Path(file.path).name for file in export.files if file.path.endswith(".graph")) == graphs
        (tmp_path / "data" / "live" / "segments" / graphs[0]).unlink()
        assert len(engine.export(tmp_path / "less").files) == len(export.files) - 1
    with opened(restored(tmp_path / "copy", tmp_path / "new"), options) as engine:
        settle(engine)
        assert engine.stats().graphs == len(graphs)
        assert engine.stats().done.graphs_built == 0


def test_deleted_index_takes_its_files_out_of_the_copy(tmp_path: Path) -> None:
    """Also before it was freed; the copy frees its rows by itself."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
        do(engine, DeleteIndex("a"))
        export = engine.export(tmp_path / "copy")
        assert [file.path for file in export.files] == ["data.mdb"]
        settle(engine)
    with opened(restored(tmp_path / "copy", tmp_path / "new"), KEPT) as engine:
        settle(engine)
        assert engine.indexes() == []
    assert tables(tmp_path / "new") == tables(tmp_path / "data")


def test_copy_is_as_long_as_its_header_says(tmp_path: Path) -> None:
    """LMDB leaves out pages at the end that one transaction took and freed; a copy has them, so nobody has to look for them."""
    big = asset(1, unit(META, bytes(8)), metadata=b'{"x": "%s"}' % (b"x" * 300_000))
    with opened(tmp_path / "data", KEPT) as engine:
        create(engine)
        for number in range(20):  # pages that the next transaction can take, so that only the large record is at the end
            add(engine, asset(2, unit(META, bytes([number] * 8))))
        requests: list[Request] = [AddAssets("a", [big]), DeleteAsset("a", 0, key(1))]
        engine.replay([LogRecord(at, at, encode(LogRow(at, FORMAT, request))) for at, request in enumerate(requests, 22)])
        export = engine.export(tmp_path / "copy")
        assert export.files[0].size > (tmp_path / "data" / "live" / "data.mdb").stat().st_size
        assert export.files[0].size == (tmp_path / "copy" / "data.mdb").stat().st_size
    with opened(restored(tmp_path / "copy", tmp_path / "new"), KEPT) as engine:
        assert engine.sequence == 23


def test_target_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    """An empty one is taken."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "theirs").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    with opened(tmp_path / "data", KEPT) as engine:
        for name in ("full", "file"):
            with pytest.raises(Unwritable, match="is not empty"):
                engine.export(tmp_path / name)
        engine.export(tmp_path / "empty")
    assert files_below(tmp_path / "full") == {"theirs"}


def test_lack_of_room_is_found_before_anything_is_written(tmp_path: Path) -> None:
    """The copy must leave free what writes leave free."""
    with opened(tmp_path / "data", KEPT) as engine:
        create(engine)
    options = msgspec.structs.replace(KEPT, disk_free_min_bytes=1 << 60)
    needs = pytest.raises(NoSpace, match=r"a copy of the store needs.*ISCC_SEARCH_DISK_FREE_MIN_BYTES")
    with opened(tmp_path / "data", options) as engine, needs:
        engine.export(tmp_path / "deep" / "copy")
    assert not (tmp_path / "deep").exists()


def held(engine: Engine) -> tuple[int, int]:
    """Readers that hold a transaction, threads. A place that is free again has a dash."""
    readers = engine._store._env.readers().splitlines()[1:]
    return sum(not line.endswith("-") for line in readers), threading.active_count()


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_copy_that_cannot_be_written_leaves_nothing(tmp_path: Path, part: float) -> None:
    """Wherever it ends: no file, no thread, no reader that keeps LMDB from using pages again. The next attempt works."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
        before, page = held(engine), engine._store.page_bytes
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(part * engine._store.file_bytes()) // page * page, hard))
        try:
            with pytest.raises(Unwritable, match="File too large"):
                engine.export(tmp_path / "copy")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not (tmp_path / "copy").exists()
        assert held(engine) == before
        add(engine, asset(1_000, unit(META, bytes(8))))
        assert engine.export(tmp_path / "copy").sequence == engine.sequence


def export_when_told(directory: Path, copy: Path) -> None:
    """The process whose disk fails."""
    engine = Engine.open(directory, KEPT, on_event=lambda name, facts: None)
    engine.catch_up()
    before = held(engine)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    try:
        engine.export(copy)
    except EngineError as error:
        left = copy.exists() or held(engine) != before
        sys.stdout.write(f"{type(error).__name__} {error} left={left}\n")


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize(("fault", "kind"), [("write:error=ENOSPC:when=2", "NoSpace"), ("write:error=EIO:when=2", "Unwritable")])
def test_copy_whose_disk_fails_in_the_middle(tmp_path: Path, fault: str, kind: str) -> None:
    """A full disk asks for space, another fault for an operator; nothing is left."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
    copy = tmp_path / "copy"
    script = "import sys; from pathlib import Path; from tests.engine.test_export import export_when_told; "
    command = [sys.executable, "-c", script + "export_when_told(*map(Path, sys.argv[1:]))", str(tmp_path / "data"), str(copy)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        with Strace(child.pid, tmp_path / "trace", "-P", str(copy / "data.mdb"), "-e", f"inject={fault}"):
            told, _ = child.communicate("go\n", timeout=60)
    assert told.startswith(f"{kind} cannot write {copy / 'data.mdb'}: ")
    assert told.endswith("left=False\n")


def test_segment_that_is_lost_is_an_error_that_names_it(tmp_path: Path) -> None:
    """Not a copy that has to be rebuilt without a word."""
    with opened(tmp_path / "data", KEPT) as engine:
        filled(engine)
        path = min((tmp_path / "data" / "live" / "segments").iterdir())
        path.unlink()
        with pytest.raises(Unwritable, match=f"{path} was not there in 5 attempts"):
            engine.export(tmp_path / "copy")
        assert not (tmp_path / "copy").exists()


def export_for_ever(directory: Path, copy: Path) -> None:
    """The process that is killed."""
    engine = Engine.open(directory, TINY, on_event=lambda name, facts: None)
    engine.catch_up()
    engine.start_background()
    rng = random.Random(5)
    threading.Thread(target=churn, args=(engine, threading.Event(), [rng.randbytes(8)]), daemon=True).start()
    while True:
        sys.stdout.write("begin\n")
        sys.stdout.flush()
        engine.export(copy)
        shutil.rmtree(copy)


@pytest.mark.parametrize("begun", [1, 2, 3, 10])
def test_killed_while_copying_nothing_hinders_the_next_start(tmp_path: Path, begun: int) -> None:
    """What is left lies beside the data; removing it is all there is to do, and the next copy is right."""
    with opened(tmp_path / "data", TINY) as engine:
        create(engine)
    script = "import sys; from pathlib import Path; from tests.engine.test_export import export_for_ever; "
    command = [sys.executable, "-c", script + "export_for_ever(*map(Path, sys.argv[1:]))", str(tmp_path / "data"), str(tmp_path / "copy")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(begun):
            child.stdout.readline()
        while not (tmp_path / "copy").exists():
            assert child.poll() is None
        child.kill()
    assert inspect(tmp_path / "data").data == "whole"
    shutil.rmtree(tmp_path / "copy", ignore_errors=True)
    with opened(tmp_path / "data", TINY) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        export = engine.export(tmp_path / "copy")
        assert export.sequence == engine.sequence
        assert export.counts == engine.counts()
    with opened(restored(tmp_path / "copy", tmp_path / "new"), TINY) as engine:
        assert engine.stats().done.segments_rebuilt == 0
        assert engine.counts() == export.counts


def test_facts_of_this_version_fit(tmp_path: Path) -> None:
    """And name all that the bytes depend on."""
    with opened(tmp_path, SMALL) as engine:
        facts = engine.facts()
    assert unfit(facts) is None
    assert facts["format"] == str(FORMAT)
    assert facts["page_size"] == str(os.sysconf("SC_PAGE_SIZE"))
    assert facts["lmdb"].startswith("0.9.")
    assert facts.keys() == {"format", "lmdb", "page_size", "py-lmdb", "usearch", "tidepool"}
    assert unfit(facts | {"usearch": "1.0", "py-lmdb": "9", "tidepool": "99.0", "lmdb": "0.9.1"}) is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("format", "2", "its format is 2, this version on this machine reads 1; it was written by tidepool 99.0"),
        ("page_size", "16384", "its page size is 16384, this version on this machine reads"),
        ("lmdb", "1.0.2", "its LMDB engine is 1.0, this version on this machine reads 0.9"),
        ("lmdb", None, "its LMDB engine is not named"),
        ("format", None, "its format is not named"),
    ],
)
def test_facts_that_do_not_fit_say_why(tmp_path: Path, name: str, value: str | None, words: str) -> None:
    """One sentence."""
    with opened(tmp_path, SMALL) as engine:
        facts = engine.facts() | {"tidepool": "99.0"}
    facts.pop(name)
    reason = unfit(facts if value is None else facts | {name: value})
    assert reason is not None
    assert words in reason
