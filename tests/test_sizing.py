"""The sizing table: its smallest row is measured as the large ones are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench import sizing

COLUMNS = len(sizing.TITLES)


def test_the_smallest_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Date, machine and versions, then a row for units alone and one with simprints, each with figures that can be."""
    sizing.main(["--sizes", "1000", "--seconds", "0.2", "--directory", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d, \d+ cores? of .+, Python 3\.\d+\.\d+, tidepool \d", lines[0])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    assert rows[0] == list(sizing.TITLES)
    units, chunks = (dict(zip(sizing.TITLES, row, strict=True)) for row in rows[2:])
    assert [(row["assets"], row["simprints each"]) for row in (units, chunks)] == [("1,000", "0"), ("1,000", "50")]
    for row in (units, chunks):
        assert 20 < int(row["anonymous memory after ingest, MB"]) < 400
        assert 0 < int(row["disk (`live`), MB"]) < 100
        assert 0 < int(row["bucket, MB"]) < 100
        assert 0 < float(row["cold start, s"]) < 60
        assert re.fullmatch(r"[\d.]+ / [\d.]+", row["search by units p50 / p99, ms"])
    assert units[sizing.TITLES[9]] == ""
    assert re.fullmatch(r"[\d.]+ / [\d.]+", chunks[sizing.TITLES[9]])
    assert list(tmp_path.iterdir()) == []
