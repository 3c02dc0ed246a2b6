"""`verify` finds what is wrong and says what follows."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from service.engine.errors import Locked
from service.engine.verify import verify
from tests.engine.building import add, asset, create, opened, random_units, settle


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Data with sealed segments."""
    with opened(tmp_path) as engine:
        create(engine)
        rng = random.Random(1)
        add(engine, *(asset(number, *random_units(rng)) for number in range(300)))
        settle(engine)
    return tmp_path


def test_whole_directory_has_no_problems(directory: Path) -> None:
    """And stays as it is."""
    assert verify(directory) == []


def test_damaged_page_is_found_without_mapping_the_file(directory: Path) -> None:
    """A page of zeros would end a process that maps it."""
    path = directory / "live" / "data.mdb"
    content = bytearray(path.read_bytes())
    content[5 * 4096 : 40 * 4096] = bytes(35 * 4096)
    path.write_bytes(content)
    problems = verify(directory)
    assert problems
    assert all(str(path) in problem and "restore a copy" in problem for problem in problems)


def test_damaged_segment_is_named(directory: Path) -> None:
    """It is derived: the next start rebuilds it."""
    path = next((directory / "live" / "segments").iterdir())
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert verify(directory) == [f"{path} is missing or differs from its digest: it is rebuilt at the next start"]


def test_directory_in_use_is_left_alone(directory: Path) -> None:
    """Files that change cannot be checked."""
    with opened(directory), pytest.raises(Locked):
        verify(directory)


def test_empty_directory_is_a_problem(tmp_path: Path) -> None:
    """A wrong path must not look like good data, and nothing is made there."""
    (problem,) = verify(tmp_path)
    assert "no tidepool data directory" in problem
    assert list(tmp_path.iterdir()) == []
