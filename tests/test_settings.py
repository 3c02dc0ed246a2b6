"""Settings: names, defaults, what is refused and in which words."""

from __future__ import annotations

from math import ceil
from pathlib import Path

import msgspec
import pytest

from service.boot.terms import options
from service.engine.options import Options
from service.machine import processors
from service.settings import PREFIX, SETTINGS, Settings, SettingsError, describe, load

NONE = Path("/nonexistent/.env")


def read(**values: str) -> Settings:
    return load({PREFIX + name: value for name, value in values.items()}, NONE)[0]


def refused(**values: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(**values)
    assert len(caught.value.problems) == 1
    return caught.value.problems[0]


def test_without_any_variable_everything_has_a_default() -> None:
    """The service starts with nothing configured, for this machine only."""
    settings, notices = load({"HOME": "/home/x"}, NONE)
    assert notices == []
    assert (settings.host, settings.port, settings.api_secret) == ("127.0.0.1", 8000, None)
    assert settings.directory == Path("~/.local/share/tidepool").expanduser()
    assert settings.read_threads >= 1


def test_the_data_directory_follows_the_platform() -> None:
    """XDG_DATA_HOME moves it."""
    assert load({"XDG_DATA_HOME": "/srv/x"}, NONE)[0].directory == Path("/srv/x/tidepool")


@pytest.mark.parametrize("text", ["usearch:///data/x", "usearch:////data/x", "/data/x"])
def test_ways_to_name_the_directory(text: str) -> None:
    """The reference's form and a plain path mean the same."""
    assert read(INDEX_URI=text).directory == Path("/data/x")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lmdb:///data", "write usearch:///data"),
        ("memory://", "write usearch:///tmp/tidepool"),
        ("usearch://rel/x", "write usearch:///rel/x or the plain path"),
        ("s3://bucket", "expected usearch:///path or a plain path"),
        ("", "expected a directory"),
        ("usearch:///", "expected a directory below the root"),
        ("/", "expected a directory below the root"),
    ],
)
def test_other_stores_are_refused_with_what_to_write_instead(text: str, words: str) -> None:
    """The message names the variable, the value and the way out."""
    problem = refused(INDEX_URI=text)
    assert problem.startswith(f"ISCC_SEARCH_INDEX_URI={text!r}: ")
    assert words in problem


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("WORKERS", "4", "expected 1"),
        ("PORT", "80 ", "whole number from 1 to 65535"),
        ("PORT", "0", "whole number from 1 to 65535"),
        ("PORT", "99999999999999999999999", "whole number from 1 to 65535"),
        ("HOST", "example.org", "expected an IP address"),
        ("LOG_LEVEL", "verbose", "expected debug, info"),
        ("MATCH_THRESHOLD_UNITS", "1.5", "from 0 to 1"),
        ("MATCH_THRESHOLD_UNITS", "nan", "from 0 to 1"),
        ("CONFIDENCE_EXPONENT", "0", "from 1 to 64"),
        ("MAX_LIMIT", "1.0", "whole number"),
        ("CORS_ORIGINS", "example.org", "https://example.org"),
        ("DRAIN_SECONDS", "", "whole number"),
    ],
)
def test_wrong_values_say_what_is_expected(name: str, text: str, words: str) -> None:
    """Each problem names the variable, the value and what would be right."""
    problem = refused(**{name: text})
    assert problem.startswith(f"{PREFIX}{name}={text!r}: ")
    assert words in problem


@pytest.mark.parametrize("text", ["", "  ", "ä-secret", "two\nlines", " leading"])
def test_a_secret_that_locks_everybody_out_is_refused(text: str) -> None:
    """An empty or unsendable secret is an error at the start, and is never shown."""
    problem = refused(API_SECRET=text)
    assert problem.startswith("ISCC_SEARCH_API_SECRET=(hidden): ")
    assert not text.strip() or text not in problem


def test_all_problems_are_told_at_once() -> None:
    """One attempt shows everything that is wrong."""
    with pytest.raises(SettingsError) as caught:
        read(PORT="x", WORKERS="2", INDEX_URI="memory://")
    assert [problem.partition("=")[0] for problem in caught.value.problems] == [PREFIX + name for name in ("INDEX_URI", "PORT", "WORKERS")]


def test_names_are_not_case_sensitive() -> None:
    """As in the reference."""
    assert load({"iscc_search_port": "9000"}, NONE)[0].port == 9000


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """`.env` fills in what the environment leaves out; quotes, comments and `export` are understood."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("# mine\nexport ISCC_SEARCH_PORT=9001\nISCC_SEARCH_API_SECRET='a b # c'\nISCC_SEARCH_HOST=0.0.0.0 # all\nOTHER=1\n\n")
    settings, notices = load({"ISCC_SEARCH_PORT": "9002"}, dotenv)
    assert (settings.port, settings.api_secret, settings.host) == (9002, "a b # c", "0.0.0.0")
    assert notices == []


def test_names_without_meaning_are_accepted_in_one_line() -> None:
    """Variables of the reference are told, not refused."""
    given = {"SHARD_SIZE_UNITS": "1", "FLUSH_INTERVAL": "x", "AGGREGATOR_NETWORK": ""}
    _, notices = load({PREFIX + name: value for name, value in given.items()}, NONE)
    ours = ", ".join(PREFIX + name for name in ("AGGREGATOR_NETWORK", "FLUSH_INTERVAL", "SHARD_SIZE_UNITS"))
    assert notices == [f"settings of iscc-search without meaning here, ignored: {ours}"]


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("DRAIN_SECOND", "20", "ISCC_SEARCH_DRAIN_SECOND='20': there is no such setting: did you mean ISCC_SEARCH_DRAIN_SECONDS?"),
        ("API_SECRTE", "hush", "ISCC_SEARCH_API_SECRTE=(hidden): there is no such setting: did you mean ISCC_SEARCH_API_SECRET?"),
        ("NONSENSE", "1", "ISCC_SEARCH_NONSENSE=(hidden): there is no such setting: leave it out; `tidepool config --schema` lists all"),
    ],
)
def test_unknown_names_are_refused_with_a_guess(name: str, text: str, problem: str) -> None:
    """A typing error must not pass for a default. What could be a secret is not shown."""
    assert refused(**{name: text}) == problem


def test_defaults_are_those_of_the_engine() -> None:
    """A service and an engine without settings behave alike; the service knows its machine."""
    told = options(read(SNAPSHOT_URL="none"))
    assert told.processors == ceil(processors())
    assert msgspec.structs.replace(told, processors=1) == Options()
    assert options(read()) == msgspec.structs.replace(told, keep_log=True)


def test_every_member_is_described() -> None:
    """The table has each variable once, in words."""
    members = {"directory" if name == "INDEX_URI" else name.lower() for name in SETTINGS}
    assert members == {field.name for field in msgspec.structs.fields(Settings)} - {"environment"}
    assert all(row.description and not row.description.endswith(".") for row in describe())


def test_settings_are_never_printed() -> None:
    """A line that shows the whole object shows no secret."""
    assert "hush" not in f"{read(API_SECRET='hush')!r} {read(API_SECRET='hush')}"
