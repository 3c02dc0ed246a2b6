"""The mark: whole or not at all, and never guessed."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from snapshots.errors import Corrupt, NoRoom, Refused
from snapshots.log import Place
from snapshots.manifest import Parent
from snapshots.mark import FORMAT, NAME, Mark, read_mark, write_mark

MARK = Mark(FORMAT, "1" * 32, 3, "w" * 32, Place(7, "d" * 64, 70, 7000), Parent("2" * 32, 5))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Also after another one, and nothing else is left."""
    assert read_mark(tmp_path) is None
    write_mark(tmp_path, msgspec.structs.replace(MARK, parent=None))
    write_mark(tmp_path, MARK)
    write_mark(tmp_path, MARK)
    assert read_mark(tmp_path) == MARK
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize("step", ["open", "fsync", "rename"])
@pytest.mark.parametrize("code", [5, 28])
def test_a_write_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, code: int) -> None:
    """The mark before it stays, nothing half is left, and the error says what to do."""
    write_mark(tmp_path, MARK)

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    owner = {"open": Path, "fsync": os, "rename": Path}[step]
    original = Path.open
    if step == "open":
        monkeypatch.setattr(Path, "open", lambda self, *mode: fail() if "w" in "".join(mode) else original(self, *mode))
    else:
        monkeypatch.setattr(owner, step, fail)
    with pytest.raises(NoRoom if code == 28 else Refused, match=NAME):
        write_mark(tmp_path, msgspec.structs.replace(MARK, epoch=4))
    monkeypatch.undo()
    assert read_mark(tmp_path) == MARK
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_death_before_the_rename(tmp_path: Path) -> None:
    """Leaves the mark of before; the next one is not hindered by what was left."""
    write_mark(tmp_path, MARK)
    (tmp_path / f"{NAME}.tmp").write_bytes(b"half")
    assert read_mark(tmp_path) == MARK
    write_mark(tmp_path, msgspec.structs.replace(MARK, epoch=4))
    found = read_mark(tmp_path)
    assert found is not None
    assert found.epoch == 4
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[]", b"\xff", b'{"format": 1}', b'{"format": 1, "lineage": "\xff"}', msgspec.json.encode(MARK)[:-1]]
)
def test_a_mark_that_cannot_be_read(tmp_path: Path, body: bytes) -> None:
    """Is not no mark: that would be a disk that was never published."""
    (tmp_path / NAME).write_bytes(body)
    with pytest.raises(Corrupt, match="--adopt-remote or --adopt-local"):
        read_mark(tmp_path)


def test_a_mark_of_a_newer_version(tmp_path: Path) -> None:
    """Is refused with what to do, also when it has other members."""
    write_mark(tmp_path, msgspec.structs.replace(MARK, format=FORMAT + 1))
    with pytest.raises(Refused, match="run the version of tidepool that wrote it"):
        read_mark(tmp_path)
    (tmp_path / NAME).write_bytes(b'{"format": 2, "shape": "new"}')
    with pytest.raises(Refused, match="has format 2"):
        read_mark(tmp_path)


def test_a_place_without_a_directory(tmp_path: Path) -> None:
    """No mark to read; none can be written."""
    assert read_mark(tmp_path / "live") is None
    with pytest.raises(Refused):
        write_mark(tmp_path / "live", MARK)
