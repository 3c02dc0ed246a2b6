"""The settings of the process: command line, environment and `.env` → one frozen `Settings`, read once, at start.

The only reader of the environment. All problems are reported at once. What can be set stands in `service.configuration`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from service.configuration import rules, sources
from service.configuration.sources import DEFAULT, Given
from service.configuration.table import PREFIX, SETTINGS
from service.configuration.texts import NO_BUCKET
from service.configuration.usual import defaults

__all__ = [
    "NO_BUCKET",
    "PREFIX",
    "SETTINGS",
    "Effective",
    "Row",
    "Settings",
    "SettingsError",
    "describe",
    "effective",
    "load",
    "load_process",
]


class SettingsError(Exception):
    """The environment cannot be used. `problems` has one sentence for each variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set. Member names are the variables without prefix in lower case, `index_uri` excepted."""

    directory: Path
    host: str
    port: int
    workers: int
    log_level: str
    api_secret: str | None
    require_secret: bool
    cors_origins: tuple[str, ...]
    match_threshold_units: float
    match_threshold_simprints: float
    confidence_exponent: int
    exact_max_codes: int
    max_candidates: int
    max_chunk_postings: int
    segment_codes: int
    disk_free_min_bytes: int
    memory_max_bytes: int
    """0 for no limit."""
    max_body_bytes: int
    max_query_bytes: int
    max_assets: int
    max_units: int
    max_simprints: int
    max_query_simprints: int
    max_metadata_bytes: int
    max_limit: int
    read_threads: int
    read_queue: int
    read_queue_bytes: int
    write_queue: int
    write_queue_bytes: int
    max_requests: int
    request_seconds: int
    rate_limit: tuple[int, str] | None
    rate_limit_store: str
    rate_limit_redis_url: str
    trusted_proxies: tuple[str, ...]
    graphs: bool
    simprints: bool
    docs: bool
    metrics: bool
    drain_seconds: int
    drain_grace_seconds: int
    snapshot_url: str
    snapshot_interval: int
    log_interval: float
    log_backlog_bytes: int
    durability: str
    snapshot_missing: str
    snapshot_unreachable: str
    snapshot_unsafe: bool
    snapshot_encryption: str
    snapshot_keep: tuple[int, int, int]
    snapshot_window: int
    snapshot_verify_interval: int
    snapshot_drill_interval: int
    snapshot_heartbeat_url: str
    otel: bool
    sentry_dsn: str
    sentry_traces_sample_rate: float
    environment: dict[str, str]
    """Names that AWS gives to credentials, region and endpoint, as they were found."""

    def __repr__(self) -> str:
        """No values: one of them is the secret."""
        return "Settings(…)"


class Row(msgspec.Struct, frozen=True):
    """One line of the table of settings."""

    name: str
    default: str
    description: str


class Effective(msgspec.Struct, frozen=True):
    """What holds for one variable, and who said so. A secret is not shown."""

    name: str
    value: str
    source: str


def load(environ: Mapping[str, str], dotenv: Path, overrides: Mapping[str, str] | None = None) -> tuple[Settings, list[str]]:
    """Settings and what to log about the variables. Raises SettingsError with every problem."""
    found = _find(environ, dotenv, overrides or {})
    return found.settings, found.notices


def effective(environ: Mapping[str, str], dotenv: Path, overrides: Mapping[str, str] | None = None) -> list[Effective]:
    """Every setting in the order of the table. Raises SettingsError."""
    texts = _find(environ, dotenv, overrides or {}).texts
    return [
        Effective(PREFIX + name, sources.HIDDEN if setting.secret and texts[name].text else texts[name].text, texts[name].source)
        for name, setting in SETTINGS.items()
    ]


def load_process(overrides: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings of this process: what the command line says, then its environment, then the `.env` of its working directory."""
    return load(os.environ, Path(".env"), overrides)


def effective_process() -> list[Effective]:
    """Those that hold for this process."""
    return effective(os.environ, Path(".env"))


def failpoints(environ: Mapping[str, str]) -> dict[str, str]:
    """Places at which a test has the process die or stop: `TIDEPOOL_FAILPOINTS=name=kill,name=stop`."""
    pairs = (part.partition("=") for part in environ.get("TIDEPOOL_FAILPOINTS", "").split(",") if part)
    return {name: action for name, _, action in pairs}


def process_failpoints() -> dict[str, str]:
    """Those of this process."""
    return failpoints(os.environ)


def describe() -> list[Row]:
    """The table of settings, as the README shows it."""
    return [Row(PREFIX + name, setting.default or "", setting.description) for name, setting in SETTINGS.items()]


class _Found(msgspec.Struct, frozen=True):
    settings: Settings
    notices: list[str]
    texts: dict[str, Given]


def _find(environ: Mapping[str, str], dotenv: Path, overrides: Mapping[str, str]) -> _Found:
    lines = _lines(dotenv)
    around = {**lines, **environ}
    problems: list[str] = []
    given = sources.gather(overrides, environ, lines)
    notices = sources.notices(given, problems)
    texts = _texts(sources.read_secrets(given, problems), around)
    values = _read(texts, problems)
    if "SNAPSHOT_URL" in values and "INDEX_URI" in values:
        values["SNAPSHOT_URL"] = values["SNAPSHOT_URL"] or _default_bucket(around, str(values["INDEX_URI"]), texts)
    problems += rules.broken(values, around)
    if problems:
        raise SettingsError(problems)
    members = {"directory" if name == "INDEX_URI" else name.lower(): value for name, value in values.items()}
    members["environment"] = {name: value for name, value in around.items() if name.startswith("AWS_")}
    return _Found(Settings(**members), notices, texts)  # type: ignore[arg-type]  # each value comes from the reader of its name


def _lines(dotenv: Path) -> dict[str, str]:
    try:
        return sources.read_dotenv(dotenv)
    except OSError as error:
        raise SettingsError([f"{dotenv.absolute()} cannot be read: {error.strerror}"]) from error


def _texts(given: Mapping[str, Given], environ: Mapping[str, str]) -> dict[str, Given]:
    """A text for every setting."""
    own = defaults(environ)
    usual = {name: Given(own.get(name, setting.default or ""), DEFAULT) for name, setting in SETTINGS.items()}
    return {name: given.get(name, text) for name, text in usual.items()}


def _read(texts: Mapping[str, Given], problems: list[str]) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, setting in SETTINGS.items():
        text = texts[name]
        if text.source == DEFAULT and setting.default is None and not text.text:
            values[name] = None
            continue
        try:
            values[name] = setting.kind.read(text.text)
        except ValueError as error:
            problems.append(f"{PREFIX}{name}={sources.shown(name, text.text)}: {error}")
    return values


def _default_bucket(environ: Mapping[str, str], directory: str, texts: dict[str, Given]) -> str:
    """The bucket that Fly.io made, or the directory beside the data."""
    name = environ.get("BUCKET_NAME", "")
    url = f"s3://{name}/tidepool" if name else Path(directory, "bucket").as_uri()
    texts["SNAPSHOT_URL"] = Given(url, "BUCKET_NAME" if name else DEFAULT)
    return url
