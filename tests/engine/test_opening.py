"""What a directory holds, who has it, and files that came from elsewhere."""

from __future__ import annotations

import random
import shutil
import sys
from pathlib import Path

import pytest

from service.engine.engine import Engine
from service.engine.errors import Damaged, Locked, Unwritable
from service.engine.files import DirectoryLock
from service.engine.journal import LogRecord
from service.engine.layout import FORMAT, LogRow, encode
from service.engine.opening import LocalData, inspect, make_empty, mark_whole
from service.engine.requests import DeleteIndex
from tests.engine.building import SMALL, Events, add, asset, create, opened, random_units, search, settle


def filled(directory: Path, count: int = 300) -> None:
    with opened(directory) as engine:
        create(engine)
        rng = random.Random(1)
        add(engine, *(asset(number, *random_units(rng)) for number in range(count)))
        settle(engine)


def break_page(directory: Path) -> None:
    """Pages that reading everything meets."""
    path = directory / "live" / "data.mdb"
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 40 * 4096] = bytes(35 * 4096)
    path.write_bytes(content)


def never_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child process that reads the pages would fail."""
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nkill -9 $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))


def test_directory_without_data(tmp_path: Path) -> None:
    """No directory, no `live`, an empty `live`: nothing is made of it."""
    assert inspect(tmp_path / "nowhere") == LocalData("none")
    assert inspect(tmp_path) == LocalData("none")
    (tmp_path / "live").mkdir()
    assert inspect(tmp_path) == LocalData("none")
    assert [path.name for path in tmp_path.rglob("*")] == ["live"]


def test_whole_data_is_read_once_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inspecting reads every page, and what it found is known to the open that follows, also when it is done twice."""
    filled(tmp_path)
    (tmp_path / "clean").unlink()
    assert inspect(tmp_path) == LocalData("whole")
    never_walk(tmp_path, monkeypatch)
    assert inspect(tmp_path) == LocalData("whole")
    with opened(tmp_path) as engine:
        assert engine.index("a").assets == 300
        assert not (tmp_path / "clean").exists()


def test_whole_data_is_not_read_after_a_clean_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor after somebody who knows its bytes said that they are right."""
    filled(tmp_path)
    never_walk(tmp_path, monkeypatch)
    assert inspect(tmp_path) == LocalData("whole")
    (tmp_path / "clean").unlink()
    with pytest.raises(Unwritable, match="SIGKILL"):
        inspect(tmp_path)
    mark_whole(tmp_path)
    assert inspect(tmp_path) == LocalData("whole")


def test_damaged_page_is_damage_and_stays_it(tmp_path: Path) -> None:
    """The reason names the file; no mark is set."""
    filled(tmp_path)
    (tmp_path / "clean").unlink()
    break_page(tmp_path)
    for _ in range(2):
        found = inspect(tmp_path)
        assert found.data == "damaged"
        assert f"{tmp_path / 'live' / 'data.mdb'} is damaged" in found.reason
    assert not (tmp_path / "clean").exists()


@pytest.mark.parametrize(("damage", "words"), [("missing", "is missing"), ("empty", "is empty"), ("cut", "bytes where its header needs")])
def test_damaged_file_is_damage_also_after_a_clean_stop(tmp_path: Path, damage: str, words: str) -> None:
    """Never taken for an empty directory."""
    filled(tmp_path)
    path = tmp_path / "live" / "data.mdb"
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2 // 4096 * 4096])
    found = inspect(tmp_path)
    assert found.data == "damaged"
    assert words in found.reason


def test_directory_of_the_reference_server_is_an_error(tmp_path: Path) -> None:
    """It has no data of ours, and nothing may be put beside theirs."""
    (tmp_path / "books").mkdir()
    (tmp_path / "books" / "index.lmdb").write_bytes(b"theirs")
    with pytest.raises(Damaged, match="written by iscc-search"):
        inspect(tmp_path)


def test_empty_store_can_be_made_and_opened(tmp_path: Path) -> None:
    """Under another name, to be renamed to `live`."""
    make_empty(tmp_path / "restore")
    (tmp_path / "restore" / "mark").write_bytes(b"x")
    (tmp_path / "restore").rename(tmp_path / "live")
    assert inspect(tmp_path) == LocalData("whole")
    with opened(tmp_path) as engine:
        assert engine.sequence == 0
        create(engine)


def test_lock_that_is_given_stays_the_callers(tmp_path: Path) -> None:
    """Taken once, for everything from looking to closing; an engine that cannot be opened does not give it back either."""
    with DirectoryLock(tmp_path) as lock:
        engine = Engine.open(tmp_path, SMALL, on_event=lambda name, facts: None, lock=lock)
        engine.catch_up()
        engine.close()
        with pytest.raises(Locked):
            DirectoryLock(tmp_path)
        (tmp_path / "live" / "data.mdb").write_bytes(b"")
        with pytest.raises(Damaged):
            Engine.open(tmp_path, SMALL, on_event=lambda name, facts: None, lock=lock)
        with pytest.raises(Locked):
            DirectoryLock(tmp_path)
        shutil.rmtree(tmp_path / "live")
        Engine.open(tmp_path, SMALL, on_event=lambda name, facts: None, lock=lock).close()
    DirectoryLock(tmp_path).release()


def copy_of(directory: Path, target: Path) -> None:
    """As after a restore: all files have other times and inodes."""
    shutil.copytree(directory, target)


def test_copied_files_are_adopted_in_one_transaction(tmp_path: Path) -> None:
    """However many; the next open trusts them."""
    filled(tmp_path / "original")
    copy_of(tmp_path / "original", tmp_path / "copy")
    events: Events = []
    engine = Engine.open(tmp_path / "copy", SMALL, on_event=lambda name, facts: events.append((name, facts)))
    try:
        assert len(engine._doubtful) > 5
        before = engine._store._env.info()["last_txnid"]
        engine.catch_up()
        assert engine._store._env.info()["last_txnid"] == before + 1
        engine.catch_up()
        assert engine._store._env.info()["last_txnid"] == before + 1
    finally:
        engine.close()
    again = Engine.open(tmp_path / "copy", SMALL, on_event=lambda name, facts: events.append((name, facts)))
    assert again._doubtful == []
    again.close()
    assert events == []


def test_files_are_hashed_again_when_adopting_was_cut_short(tmp_path: Path) -> None:
    """Before the transaction nothing is known of them; afterwards all answers are right."""
    filled(tmp_path / "original")
    copy_of(tmp_path / "original", tmp_path / "copy")
    first = Engine.open(tmp_path / "copy", SMALL, on_event=lambda name, facts: None)
    waiting = len(first._doubtful)
    first.close()
    rng = random.Random(1)
    with opened(tmp_path / "copy") as engine:
        assert engine.stats().segments == waiting
        assert engine.stats().done.segments_rebuilt == 0
        for number in range(300):
            assert [int.from_bytes(match.key, "big") for match in search(engine, *random_units(rng)).matches] == [number]


def test_index_that_was_deleted_before_catching_up_is_not_brought_back(tmp_path: Path) -> None:
    """A replay may come before the files are adopted."""
    filled(tmp_path / "original")
    copy_of(tmp_path / "original", tmp_path / "copy")
    engine = Engine.open(tmp_path / "copy", SMALL, on_event=lambda name, facts: None)
    row = encode(LogRow(1, FORMAT, DeleteIndex("a")))
    engine.replay([LogRecord(engine.sequence + 1, 1, row)])
    engine.catch_up()
    settle(engine)
    assert (engine.stats().segments, engine.stats().columns) == (0, 0)
    engine.close()
    assert list((tmp_path / "copy" / "live" / "segments").iterdir()) == []
