"""The pages in `docs/` as tests look at them: sections, blocks of commands, links, words in code style.

The language of a block says what it is: `sh` are commands that run as they stand and end with 0, or with what a comment says; `console`
commands with what they print, `sh cloud` commands that need an account or a cluster (what they name is checked), `json` is data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.project import ROOT

DOCS = ROOT / "docs"
RUN, SHOWN, CLOUD, DATA = "sh", "console", "sh cloud", "json"
LANGUAGES = {RUN, SHOWN, CLOUD, DATA}
_FENCE = re.compile(r"^```(.*)\n((?s:.*?))^```$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ENDS = re.compile(r" # ends with (\d+)")
_CODE = re.compile(r"`([^`\n]+)`")


class Step(NamedTuple):
    """A command and what it prints."""

    command: str
    output: str

    @property
    def code(self) -> int:
        """What it ends with: 0, or what its comment says."""
        said = _ENDS.search(self.command)
        return int(said[1]) if said else 0


class Block(NamedTuple):
    """A fenced block and the anchor of the section in which it stands."""

    section: str
    language: str
    text: str

    @property
    def steps(self) -> list[Step]:
        """Its commands. One goes on while a quote is open or its line ends in a backslash."""
        if self.language == SHOWN:
            return [_split(part) for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]]
        found, rest = [], self.text
        while rest:
            step = _split(rest)
            rest = step.output
            if step.command.strip():
                found.append(Step(step.command, ""))
        return found


class Page(NamedTuple):
    """One file of the guides."""

    name: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        return [Block(self._section_at(found.start()), found[1], found[2]) for found in _FENCE.finditer(self.text)]

    @property
    def prose(self) -> str:
        """The page without its blocks."""
        return _FENCE.sub("", self.text)

    @property
    def anchors(self) -> list[str]:
        return [anchor(title) for title in _HEADING.findall(self.prose)]

    @property
    def links(self) -> list[str]:
        return _LINK.findall(self.prose)

    @property
    def codes(self) -> list[str]:
        """What stands between backticks."""
        return _CODE.findall(self.prose)

    def section(self, name: str) -> str:
        """The text under one heading, up to the next of any level."""
        titles = list(_HEADING.finditer(self.text))
        for title, end in zip(titles, [*(found.start() for found in titles[1:]), len(self.text)], strict=True):
            if anchor(title[1]) == name:
                return self.text[title.end() : end]
        raise AssertionError(f"{self.name} has no section {name}")

    def _section_at(self, place: int) -> str:
        titles = [anchor(found[1]) for found in _HEADING.finditer(self.text, 0, place)]
        return titles[-1] if titles else ""


def pages() -> list[Page]:
    return [page(path.name) for path in sorted(DOCS.glob("*.md"))]


def page(name: str) -> Page:
    return Page(name, (DOCS / name).read_text("utf-8"))


def anchor(title: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def table(text: str) -> Iterator[list[str]]:
    """The rows of all tables, without their heads."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if line.startswith("|") and not set(line) <= set("|- "):
            yield cells


def _split(text: str) -> Step:
    lines = text.splitlines(keepends=True)
    end = next(at for at in range(1, len(lines) + 1) if _is_whole("".join(lines[:at])))
    return Step("".join(lines[:end]), "".join(lines[end:]))


def _is_whole(command: str) -> bool:
    return command.count("'") % 2 == 0 and not command.endswith("\\\n")


def path_of(name: str) -> Path:
    return DOCS / name
