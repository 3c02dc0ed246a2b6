"""Where values come from: the command line, the environment, `.env`, and files that hold a secret."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from service.configuration.table import FILE, PREFIX, SECRETS, SETTINGS, WITHOUT_MEANING

COMMAND_LINE, ENVIRONMENT, DOTENV, DEFAULT = "command line", "environment", ".env", "default"
SECRET_BYTES_MAX = 1 << 16
LIKENESS = 0.7
HIDDEN = "(hidden)"


class Given(msgspec.Struct, frozen=True):
    """A text and who said it."""

    text: str
    source: str


def gather(overrides: Mapping[str, str], environ: Mapping[str, str], dotenv: Mapping[str, str]) -> dict[str, Given]:
    """Variables with our prefix, without it, in capital letters. The command line goes before the environment, this before `.env`."""
    found: dict[str, Given] = {}
    for values, source in ((dotenv, DOTENV), (environ, ENVIRONMENT), (overrides, COMMAND_LINE)):
        for name, text in values.items():
            if name.upper().startswith(PREFIX):
                found[name.upper().removeprefix(PREFIX)] = Given(text, source)
    return found


def read_secrets(given: dict[str, Given], problems: list[str]) -> dict[str, Given]:
    """What is given, with the contents of files in the place of their names."""
    found = dict(given)
    for name in SECRETS:
        file = found.pop(name + FILE, None)
        if file is None:
            continue
        if name in given:
            problems.append(f"{PREFIX}{name}{FILE}={file.text!r}: {PREFIX}{name} is given too: leave one of them out")
            continue
        try:
            found[name] = Given(_read_secret(file.text), f"file {file.text}")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            problems.append(f"{PREFIX}{name}{FILE}={file.text!r}: cannot be read: {why}; expected a file that holds the value")
    return found


def notices(given: Mapping[str, Given], problems: list[str]) -> list[str]:
    """What is told of names of iscc-search. Names that nobody knows are problems, with a guess at what was meant."""
    known = {*SETTINGS, *(name + FILE for name in SECRETS)}
    ignored = sorted(PREFIX + name for name in given if name in WITHOUT_MEANING - known)
    problems += [_unknown(name, given[name].text, sorted(known)) for name in sorted(given.keys() - known - WITHOUT_MEANING)]
    return [f"settings of iscc-search without meaning here, ignored: {', '.join(ignored)}"] if ignored else []


def shown(name: str, text: str) -> str:
    """A value in a problem."""
    return HIDDEN if name in SECRETS else repr(text)


def _unknown(name: str, text: str, known: list[str]) -> str:
    guesses = difflib.get_close_matches(name, known, 1, LIKENESS)
    if not guesses:
        return f"{PREFIX}{name}={HIDDEN}: there is no such setting: leave it out; `tidepool config --schema` lists all"
    return f"{PREFIX}{name}={shown(guesses[0], text)}: there is no such setting: did you mean {PREFIX}{guesses[0]}?"


def _read_secret(path: str) -> str:
    """Without the line end that editors and `echo` leave."""
    with Path(path).open("rb") as file:
        content = file.read(SECRET_BYTES_MAX + 1)
    if len(content) > SECRET_BYTES_MAX:
        raise ValueError("it is too large")
    return content.decode().removesuffix("\n").removesuffix("\r")


def read_dotenv(path: Path) -> dict[str, str]:
    """Lines `NAME=value`. No file: nothing. Raises OSError."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    values = {}
    for line in lines:
        name, separator, value = line.strip().removeprefix("export ").partition("=")
        if separator and not name.startswith("#"):
            values[name.strip()] = _unquote(value.strip())
    return values


def _unquote(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.split(" #", 1)[0].rstrip()
