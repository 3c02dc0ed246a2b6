"""Columns, sizes, times, and the line that says how far work is."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from service.bar import line
from service.tables import members, moment, shown, size, table
from snapshots.fetch import Progress
from tests.project import ROOT


def test_table() -> None:
    assert table(["name", "count"], [("a", 10), ("long one", 9)], right=["count"]) == "name      count\na            10\nlong one      9"
    assert table(["name", "why"], []) == "name  why"


def test_members() -> None:
    assert members([("a", None), ("longer", True), ("b", False), ("c", 0)]) == "a       -\nlonger  yes\nb       no\nc       0"
    assert members([]) == ""


def test_what_a_bucket_says_cannot_move_the_cursor() -> None:
    assert shown("a\x1b[2Jb\nc\r\u202ed") == "a?[2Jb?c??d"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (128 << 20, "128.0 MiB"),
        (3 << 40, "3.0 TiB"),
        (9 << 50, "9216.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_moment() -> None:
    assert moment(1_700_000_000_123_456) == "2023-11-14T22:13:20.123Z"
    assert moment(0) == moment(None) == "-"


def test_line() -> None:
    """Phase, share, total and what is left, as far as they are known."""
    progress = Progress()
    assert line(progress) == "looking at the bucket"
    progress.begin("replaying", 0)
    progress.add(2048)
    assert line(progress) == "replaying 2.0 KiB"
    progress.begin("fetching", 4096)
    progress.add(1024, fetched=False)
    assert line(progress) == f"fetching [{'#' * 6}{'.' * 18}] 25% of 4.0 KiB"
    progress.add(3072)
    assert line(progress) == f"fetching [{'#' * 24}] 100% of 4.0 KiB, 0 s left"


SCRIPT = """
from service.bar import bar
from snapshots.fetch import Progress
progress = Progress()
progress.begin("fetching", 1 << 20)
progress.add(1 << 19)
with bar(progress):
    pass
print("done")
"""


def test_the_bar_is_for_terminals(tmp_path: Path) -> None:
    """On a terminal it is drawn and taken away; in a file there is no byte of it, and never on stdout."""
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, check=True)
        drawn = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.stdout == b"done\n"
    assert "fetching [############............] 50% of 1.0 MiB" in drawn
    assert drawn.endswith("\r\x1b[K")
    silent = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, check=True)
    assert (silent.stdout, silent.stderr) == (b"done\n", b"")
