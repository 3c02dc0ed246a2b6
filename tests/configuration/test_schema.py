"""The JSON Schema of the settings: the file is that of the code, and both refuse the same."""

from __future__ import annotations

import random
import re
from pathlib import Path

import jsonschema_rs
import pytest

from service.configuration.digits import between
from service.configuration.schema import schema, text
from service.configuration.table import FILE, PREFIX, SECRETS, SETTINGS, WITHOUT_MEANING
from service.settings import SettingsError, load
from tests.project import read

NONE = Path("/nonexistent/.env")
VALIDATOR = jsonschema_rs.validator_for(schema())
RIGHT = {
    "INDEX_URI": ["/data", "usearch:///data"],
    "HOST": ["::1", "localhost"],
    "WORKERS": ["1"],
    "LOG_LEVEL": ["DEBUG"],
    "API_SECRET": ["hush hush", "x"],
    "CORS_ORIGINS": ["https://a.example,https://b.example", ""],
    "MATCH_THRESHOLD_UNITS": ["0", "1", "0.5", ".5", "5e-1"],
    "LOG_INTERVAL": ["0.05", "60"],
    "RATE_LIMIT": ["", "60/minute", "1/second", "1000000/day"],
    "RATE_LIMIT_REDIS_URL": ["", "rediss://x:1/0"],
    "TRUSTED_PROXIES": ["", "10.0.0.0/8, fd00::/8", "192.0.2.1"],
    "SNAPSHOT_URL": ["", "none", "file:///x"],
    "SNAPSHOT_ENCRYPTION": ["", "AES256", "aws:kms:x"],
    "SNAPSHOT_KEEP": ["1,2,3", "24, 7, 4"],
    "SNAPSHOT_HEARTBEAT_URL": ["", "https://x.example/ping"],
    "GRAPHS": ["no", "Yes"],
}
WRONG = {
    "INDEX_URI": [""],
    "WORKERS": ["2", ""],
    "LOG_LEVEL": ["verbose", ""],
    "API_SECRET": ["", " x", "x ", "\u00e4", "a\nb"],
    "MATCH_THRESHOLD_UNITS": ["", "x", "-1", "nan"],
    "PORT": ["0", "65536", "-1", "1.0", "", " 1"],
    "RATE_LIMIT": ["60", "0/minute", "60/fortnight", "1000001/day"],
    "RATE_LIMIT_REDIS_URL": ["http://x"],
    "SNAPSHOT_URL": ["ftp://x", "file://x", "file:///", "s3://"],
    "SNAPSHOT_ENCRYPTION": ["rot13"],
    "SNAPSHOT_KEEP": ["1,2", "1,2,x", "1,2,12345"],
    "SNAPSHOT_HEARTBEAT_URL": ["ftp://x"],
    "GRAPHS": ["true", ""],
}


def accepts(name: str, value: str) -> bool:
    try:
        load({PREFIX + name: value}, NONE)
    except SettingsError:
        return False
    return True


def test_the_file_is_that_of_the_code() -> None:
    """Made anew with `tidepool config --schema > infra/settings.schema.json`."""
    assert read("infra/settings.schema.json") == text()


def test_defaults_are_valid() -> None:
    """What stands in the table may also be written out."""
    given = {PREFIX + name: setting.default for name, setting in SETTINGS.items() if setting.default is not None}
    VALIDATOR.validate(given)
    VALIDATOR.validate({})


@pytest.mark.parametrize("name", RIGHT)
def test_right_values_are_right_for_both(name: str) -> None:
    """The code and the schema accept them."""
    for value in RIGHT[name]:
        assert accepts(name, value), value
        VALIDATOR.validate({PREFIX + name: value})


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_wrong_for_both(name: str) -> None:
    """The code and the schema refuse them."""
    for value in WRONG[name]:
        assert not accepts(name, value), value
        assert not VALIDATOR.is_valid({PREFIX + name: value}), value


def test_unknown_names_are_refused() -> None:
    """Those of iscc-search, files of secrets and everything without our prefix are known."""
    assert not VALIDATOR.is_valid({f"{PREFIX}DRAIN_SECOND": "1"})
    assert not VALIDATOR.is_valid({f"{PREFIX}API_SECRET": "a", f"{PREFIX}API_SECRET{FILE}": "/x"})
    VALIDATOR.validate({PREFIX + name: "x" for name in WITHOUT_MEANING})
    VALIDATOR.validate({"PATH": "/bin", **{PREFIX + name + FILE: "/x" for name in SECRETS}})


def test_ranges_as_patterns() -> None:
    """Exactly the numbers of the range match."""
    rng = random.Random(3)
    ranges = [(0, 0), (0, 9), (1, 65535), (9, 10), (99, 1000), *(tuple(sorted(rng.choices(range(3000), k=2))) for _ in range(60))]
    for low, high in ranges:
        pattern = re.compile(f"^({between(low, high)})$")
        found = [number for number in range(3200) if pattern.match(str(number))]
        assert found == list(range(low, min(high, 3199) + 1)), (low, high)
