"""The files of the project as tests look at them: where they are, which of them are kept, what pyproject.toml says."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def pyproject() -> dict[str, Any]:
    return tomllib.loads(read("pyproject.toml"))


def kept_files() -> Iterator[Path]:
    """Everything below the root that .gitignore does not name. Works in a copy without git."""
    ignored = [".git", *(line.rstrip("/") for line in read(".gitignore").splitlines())]

    def walk(directory: Path) -> Iterator[Path]:
        for path in sorted(directory.iterdir()):
            if any(fnmatch.fnmatchcase(path.name, pattern) for pattern in ignored):
                continue
            if path.is_dir():
                yield from walk(path)
            else:
                yield path

    return walk(ROOT)
