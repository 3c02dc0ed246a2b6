"""The README is true: its walk-through gives the answers it shows, its table lists every setting, its map every module."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from service.settings import describe
from tests.system.server import Server

README = Path(__file__).parent.parent / "README.md"


class Step(NamedTuple):
    """A command and what it prints."""

    command: str
    output: str


def steps(text: str) -> list[Step]:
    """The commands of all `console` blocks. A command goes on until its quotes are closed; what follows is its output."""
    found: list[Step] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            lines = part.splitlines(keepends=True)
            end = next(at for at in range(1, len(lines) + 1) if "".join(lines[:at]).count("'") % 2 == 0)
            found.append(Step("".join(lines[:end]), "".join(lines[end:])))
    return found


def run(command: str, url: str) -> str:
    script = command.replace("http://127.0.0.1:8000", url)
    printed = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, timeout=30).stdout
    return printed if printed.endswith("\n") else printed + "\n"


def test_walk_through_gives_the_answers_that_it_shows(tmp_path: Path) -> None:
    """Each command is run as it stands, in order, against a new service."""
    shown = steps(README.read_text())
    assert len(shown) >= 8
    with Server(tmp_path) as server:
        assert [Step(step.command, run(step.command, server.url)) for step in shown] == shown


def test_table_lists_every_setting_as_the_code_has_it() -> None:
    """Name, default and description, in the same order."""
    rows = re.findall(r"^\| `(ISCC_SEARCH_\w+)` \| (.*?) \| (.*) \|$", README.read_text(), re.MULTILINE)
    assert rows == [(row.name, row.default, row.description) for row in describe()]


def test_map_names_every_module() -> None:
    """A file that is there is in the map, and the other way round."""
    root = README.parent
    tree = re.search(r"## Map of the code\n.*?```\n(.*?)```", README.read_text(), re.DOTALL)
    assert tree is not None
    named: set[str] = set()
    folders: list[str] = []
    for line in tree[1].splitlines():
        indent, name = re.findall(r"^( *)(\S+)", line)[0]
        folders = [*folders[: len(indent) // 2], name]
        named.add("".join(folders))
    modules = {str(path.relative_to(root)) for path in (root / "service").rglob("*") if path.suffix in (".py", ".c")}
    assert {name for name in named if name.startswith("service/") and not name.endswith("/")} == {
        name for name in modules if not name.endswith("__init__.py")
    }
    assert [name for name in named if not (root / name).exists()] == []
