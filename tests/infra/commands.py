"""The commands in the READMEs of `infra/` and in the guides, word by word, for those who check what the words name."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Set
from pathlib import Path
from typing import NamedTuple

from tests.guides import CLOUD, RUN, Block, Page
from tests.infra.files import INFRA
from tests.project import ROOT

TOOLS = ("aws", "curl", "docker", "fly", "haproxy", "kubectl", "openssl", "promtool", "tidepool")
"""Those that text between backticks may begin with to be a command."""
ENDS = {"&&", "||", "|", ";", "(", ")"}
INNER = re.compile(r"\$\(([^)]*)\)")
ASSIGNMENT = re.compile(r"[A-Z_0-9]+=.*", re.DOTALL)


class Said(NamedTuple):
    """One command. `whole`: it stands in a block, to be pasted; between backticks it may leave out what the sentence says."""

    place: Path
    words: tuple[str, ...]
    whole: bool

    @property
    def folder(self) -> Path:
        """Where whoever reads this runs it: beside the README, and for the guides at the root."""
        return self.place.parent if INFRA in self.place.parents else ROOT

    def __str__(self) -> str:
        return f"{self.place.relative_to(ROOT)}: {' '.join(self.words)}"


def said() -> list[Said]:
    """In the READMEs everything; in the guides what needs a cloud and what stands in the text. The rest of the guides runs in a test."""
    found = [one for path in sorted(INFRA.glob("*/README.md")) for one in _page(path, (RUN, CLOUD))]
    return found + [one for path in sorted((ROOT / "docs").glob("*.md")) for one in _page(path, (CLOUD,))]


def blocks(path: Path, languages: tuple[str, ...]) -> list[Block]:
    return [block for block in Page(path.name, path.read_text("utf-8")).blocks if block.language in languages]


def _page(path: Path, languages: tuple[str, ...]) -> Iterator[Said]:
    for block in blocks(path, languages):
        for step in block.steps:
            yield from split(path, step.command, whole=True)
    for code in Page(path.name, path.read_text("utf-8")).codes:
        if code.split(" ")[0] in TOOLS and " " in code:
            yield from split(path, code, whole=False)


def split(place: Path, text: str, *, whole: bool) -> Iterator[Said]:
    """A line as the shell reads it: commands one after the other, and those inside `$(…)`. What is set before one is left out."""
    reader = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    words: list[str] = []
    for word in [*reader, ";"]:
        if word not in ENDS:
            words.append(word)
            continue
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words:
            yield Said(place, tuple(words), whole)
        words = []
    for inner in INNER.findall(text):
        yield from split(place, inner, whole=whole)


def parts(words: list[str], *, switches: Set[str] = frozenset()) -> tuple[list[str], dict[str, list[str]]]:
    """Plain words, and options with their values: behind `=`, or the words up to the next option."""
    plain: list[str] = []
    options: dict[str, list[str]] = {}
    last: list[str] | None = None
    for word in words:
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            last = options.setdefault(name, [])
            if equals:
                last.append(value)
            if equals or name in switches:
                last = None
        elif last is None:
            plain.append(word)
        else:
            last.append(word)
    return plain, options
