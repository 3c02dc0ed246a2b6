"""The settings of the process: environment and `.env` → one frozen `Settings`, read once, at start.

The only reader of the environment. All problems are reported at once. Each variable stands in `SETTINGS` with its default, the words
for the README and the function that reads it. Names of iscc-search that mean nothing here are accepted and reported in one line.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

PREFIX = "ISCC_SEARCH_"
NO_BUCKET = "none"
READ_THREADS_MAX = 8  # more threads gain nothing: a search is bound by memory and the interpreter lock

WITHOUT_MEANING = frozenset(
    {
        "SHARD_SIZE_UNITS",
        "SHARD_SIZE_SIMPRINTS",
        "HNSW_EXPANSION_ADD_UNITS",
        "HNSW_EXPANSION_SEARCH_UNITS",
        "HNSW_CONNECTIVITY_UNITS",
        "HNSW_EXPANSION_ADD_SIMPRINTS",
        "HNSW_EXPANSION_SEARCH_SIMPRINTS",
        "HNSW_CONNECTIVITY_SIMPRINTS",
        "OVERSAMPLING_FACTOR",
        "FLUSH_INTERVAL",
        "AGGREGATOR_NETWORK",
        "AGGREGATOR_HUB_LIST_URL",
        "AGGREGATOR_POLL_INTERVAL",
        "AGGREGATOR_HUB_REFRESH_INTERVAL",
        "API_KEY",
    }
)
"""Names that iscc-search reads and this service does not need."""


HIDDEN = frozenset({"API_SECRET", "SENTRY_DSN"})
"""Values that no message repeats."""


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
    cors_origins: tuple[str, ...]
    match_threshold_units: float
    match_threshold_simprints: float
    confidence_exponent: int
    exact_max_codes: int
    max_candidates: int
    max_chunk_postings: int
    segment_codes: int
    disk_free_min_bytes: int
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


def load(environ: Mapping[str, str], dotenv: Path) -> tuple[Settings, list[str]]:
    """Settings and what to log about the variables. Raises SettingsError with every problem."""
    given = {name.upper(): value for name, value in {**_read_dotenv(dotenv), **environ}.items() if name.upper().startswith(PREFIX)}
    values: dict[str, object] = {}
    problems: list[str] = []
    fallbacks = {"INDEX_URI": _default_directory(environ), "READ_THREADS": str(min(os.cpu_count() or 1, READ_THREADS_MAX))}
    for name, (default, _, read) in SETTINGS.items():
        text = given.get(PREFIX + name, fallbacks.get(name, default))
        try:
            values["directory" if name == "INDEX_URI" else name.lower()] = None if text is None else read(text)
        except ValueError as error:
            shown = "(hidden)" if name in HIDDEN else repr(text)
            problems.append(f"{PREFIX}{name}={shown}: {error}")
    problems += [] if problems else _contradictions(values)
    if problems:
        raise SettingsError(problems)
    found = {**_read_dotenv(dotenv), **environ}
    values["environment"] = {name: value for name, value in found.items() if name.startswith("AWS_")}
    values["snapshot_url"] = values["snapshot_url"] or _default_bucket(found, str(values["directory"]))
    return Settings(**values), _notices(given)  # type: ignore[arg-type]  # each value comes from the reader of its name


def load_process(overrides: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings of this process: what the command line says, then its environment, then the `.env` of its working directory."""
    return load({**os.environ, **overrides}, Path(".env"))


def failpoints(environ: Mapping[str, str]) -> dict[str, str]:
    """Places at which a test has the process die or stop: `TIDEPOOL_FAILPOINTS=name=kill,name=stop`."""
    pairs = (part.partition("=") for part in environ.get("TIDEPOOL_FAILPOINTS", "").split(",") if part)
    return {name: action for name, _, action in pairs}


def process_failpoints() -> dict[str, str]:
    """Those of this process."""
    return failpoints(os.environ)


def describe() -> list[Row]:
    """The table of settings, as the README shows it."""
    return [Row(PREFIX + name, "" if default is None else default, words) for name, (default, words, _) in SETTINGS.items()]


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Settings that are right alone and not together."""
    grace, budget = values["drain_grace_seconds"], values["drain_seconds"]
    if grace * 2 <= budget:
        return []
    most = f"expected at most half of {PREFIX}DRAIN_SECONDS={budget}, because the rest of the stop needs time too"
    return [f"{PREFIX}DRAIN_GRACE_SECONDS='{grace}': {most}"]


def _notices(given: Mapping[str, str]) -> list[str]:
    names = {name.removeprefix(PREFIX) for name in given} - SETTINGS.keys()
    ignored = sorted(PREFIX + name for name in names & WITHOUT_MEANING)
    unknown = sorted(PREFIX + name for name in names - WITHOUT_MEANING)
    notices = []
    if ignored:
        notices.append(f"settings of iscc-search without meaning here, ignored: {', '.join(ignored)}")
    if unknown:
        notices.append(f"unknown settings, ignored: {', '.join(unknown)}")
    return notices


def _read_dotenv(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError([f"{path.absolute()} cannot be read: {error.strerror}"]) from error
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


def _integer(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        expected = f"expected a whole number from {low} to {high}"
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ValueError(expected)
        if not low <= int(text) <= high:
            raise ValueError(expected)
        return int(text)

    return read


def _fraction(text: str) -> float:
    expected = "expected a number from 0 to 1, such as 0.75"
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError(expected) from error
    if not 0 <= value <= 1:
        raise ValueError(expected)
    return value


def _directory(text: str) -> Path:
    scheme, separator, rest = text.partition("://")
    if not separator:
        if not text:
            raise ValueError("expected a directory, such as usearch:///data or /data")
        return _below_root(str(Path(text).expanduser().absolute()))
    if scheme == "usearch":
        if not rest.startswith("/"):
            raise ValueError(f"expected an absolute path: write usearch:///{rest} or the plain path")
        return _below_root(rest)
    if scheme == "lmdb":
        raise ValueError(f"there is one kind of store: write usearch:///{rest.lstrip('/')}, with a directory that is empty or ours")
    if scheme == "memory":
        raise ValueError("data always stands on a disk: write usearch:///tmp/tidepool for data that you do not need to keep")
    raise ValueError("expected usearch:///path or a plain path")


def _below_root(path: str) -> Path:
    if not path.strip("/"):
        raise ValueError("expected a directory below the root, such as usearch:///data")
    return Path("/" + path.lstrip("/"))


def _host(text: str) -> str:
    if text == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError("expected an IP address: 127.0.0.1 for this machine only, 0.0.0.0 for all networks") from error


def _one_worker(text: str) -> int:
    if text != "1":
        raise ValueError("expected 1: one process owns the data and uses all processors by itself, leave the variable out")
    return 1


def _log_level(text: str) -> str:
    level = text.lower()
    if level not in ("debug", "info", "warning", "error", "critical"):
        raise ValueError("expected debug, info, warning, error or critical")
    return level


def _secret(text: str) -> str:
    if not text.strip():
        raise ValueError("empty: write a secret of your own, or leave the variable out for a service without a key")
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("expected printable ASCII without blanks at the ends, as it travels in a header")
    return text


def _origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    for origin in origins:
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme == "" or parts.netloc == "" or parts.path):
            raise ValueError(f"expected * or origins such as https://example.org, not {origin!r}")
    return origins


def _choice(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"expected {' or '.join(words)}")
        return text.lower()

    return read


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        expected = f"expected seconds from {low:g} to {high:g}, such as 1 or 0.5"
        try:
            value = float(text)
        except ValueError as error:
            raise ValueError(expected) from error
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return read


def _bucket_url(text: str) -> str:
    if text == NO_BUCKET:
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("file", "s3"):
        raise ValueError("expected file:///path, s3://bucket/prefix or none")
    if scheme == "file" and (not rest.strip("/") or not rest.startswith("/")):
        raise ValueError("expected a full path: file:///path")
    if scheme == "s3" and not rest.strip("/"):
        raise ValueError("expected the name of a bucket: s3://bucket/prefix")
    return text


def _encryption(text: str) -> str:
    if text not in ("", "AES256", "aws:kms") and not text.startswith("aws:kms:"):
        raise ValueError("expected AES256, aws:kms or aws:kms:KEY; objects are encrypted by the store, never here")
    return text


def _heartbeat(text: str) -> str:
    if urlsplit(text).scheme not in ("http", "https"):
        raise ValueError("expected the http or https address that is called after each good check")
    return text


def _dsn(text: str) -> str:
    parts = urlsplit(text)
    project = parts.path.rpartition("/")[2]
    if parts.scheme not in ("http", "https") or not parts.username or not parts.hostname or not project.isdigit():
        raise ValueError("expected the DSN of a project, such as https://key@sentry.example.org/1")
    _with_package("sentry_sdk", "sentry")
    return text


def _with_package(module: str, extra: str) -> bool:
    """True when it can be imported; it is not imported here."""
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise ValueError(f"needs packages that are not installed: run pip install 'tidepool[{extra}]', or leave the variable out")
    return True


def _keep(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and len(part.strip()) < 5 for part in parts):
        raise ValueError("expected how many hourly, daily and weekly checkpoints are kept, such as 24,7,4")
    hourly, daily, weekly = (int(part) for part in parts)
    return hourly, daily, weekly


def _default_bucket(environ: Mapping[str, str], directory: str) -> str:
    """The bucket that Fly.io made, or the directory beside the data."""
    name = environ.get("BUCKET_NAME", "")
    return f"s3://{name}/tidepool" if name else Path(directory, "bucket").as_uri()


def _default_directory(environ: Mapping[str, str]) -> str:
    base = environ.get("XDG_DATA_HOME", "")
    return str(Path(base) / "tidepool") if base.startswith("/") else "~/.local/share/tidepool"


_CODES_MAX = 1 << 40
_BYTES_MAX = 1 << 40

SETTINGS: dict[str, tuple[str | None, str, Callable[[str], object]]] = {
    "INDEX_URI": ("~/.local/share/tidepool", "where the data stands: `usearch:///path` or a plain path", _directory),
    "HOST": ("127.0.0.1", "IP address to listen on; `0.0.0.0` for all networks (set a secret then)", _host),
    "PORT": ("8000", "TCP port to listen on", _integer(1, 65535)),
    "WORKERS": ("1", "always 1: one process owns the data", _one_worker),
    "LOG_LEVEL": ("info", "`debug`, `info`, `warning`, `error` or `critical`", _log_level),
    "API_SECRET": (None, "key that clients send as `X-API-Key`; without it everybody may do everything", _secret),
    "CORS_ORIGINS": ("*", "origins whose pages may call the service, separated by commas", _origins),
    "MATCH_THRESHOLD_UNITS": ("0.75", "lowest similarity of a unit that makes an asset a match", _fraction),
    "MATCH_THRESHOLD_SIMPRINTS": ("0.75", "lowest similarity of a simprint that makes a chunk a match", _fraction),
    "CONFIDENCE_EXPONENT": ("4", "exponent that weighs the similarities of one asset in its score", _integer(1, 64)),
    "EXACT_MAX_CODES": ("100000000", "codes of one type above which searches go through graphs", _integer(0, _CODES_MAX)),
    "MAX_CANDIDATES": ("100000", "assets that one search may gather before it is cut", _integer(1, 100_000_000)),
    "MAX_CHUNK_POSTINGS": ("1000000", "assets of matching simprints that one search may read before it is cut", _integer(1, _CODES_MAX)),
    "SEGMENT_CODES": ("65536", "codes that are sealed into one segment file, and so into one graph", _integer(16, _CODES_MAX)),
    "DISK_FREE_MIN_BYTES": ("268435456", "room on the disk below which writes are refused with 507", _integer(0, _BYTES_MAX)),
    "MAX_BODY_BYTES": ("33554432", "bytes of a request body", _integer(1024, 1 << 30)),
    "MAX_QUERY_BYTES": ("1048576", "bytes of the body of a search", _integer(1024, 1 << 30)),
    "MAX_ASSETS": ("1000", "assets in one request", _integer(1, 1_000_000)),
    "MAX_UNITS": ("64", "units of one asset or one search", _integer(1, 10_000)),
    "MAX_SIMPRINTS": ("100000", "simprints of one asset", _integer(1, 10_000_000)),
    "MAX_QUERY_SIMPRINTS": ("1000", "simprints of one search, also of one by ISCC-ID", _integer(1, 1_000_000)),
    "MAX_METADATA_BYTES": ("1048576", "bytes of the metadata of one asset", _integer(2, 1 << 30)),
    "MAX_LIMIT": ("1000", "highest `limit` of a search", _integer(1, 1_000_000)),
    "READ_THREADS": (None, "threads that search; without it one for each processor, at most 8", _integer(1, 64)),
    "READ_QUEUE": ("256", "searches that may wait for a thread; above that 503", _integer(1, 100_000)),
    "READ_QUEUE_BYTES": ("268435456", "bytes of the requests that arrive or wait to be read; above that 503", _integer(1024, _BYTES_MAX)),
    "WRITE_QUEUE": ("1024", "writes that may wait for a commit; above that 503", _integer(1, 100_000)),
    "WRITE_QUEUE_BYTES": ("134217728", "bytes of the writes that wait; above that 503", _integer(1024, _BYTES_MAX)),
    "DRAIN_SECONDS": ("30", "time after SIGTERM to finish accepted requests and to ship the end of the log", _integer(1, 3600)),
    "DRAIN_GRACE_SECONDS": (
        "0",
        "of that time, how long requests are still answered after readiness has ended: until whoever sends them here knows",
        _integer(0, 1800),
    ),
    "SNAPSHOT_URL": (
        "",
        (
            "bucket that keeps the data: `file:///path`, `s3://bucket/prefix` or `none`; without it `s3://$BUCKET_NAME/tidepool` where "
            "Fly.io set that name, else the directory `bucket` beside the data"
        ),
        lambda text: _bucket_url(text) if text else "",
    ),
    "SNAPSHOT_INTERVAL": ("300", "seconds between the questions whether a checkpoint is due", _integer(1, 86_400)),
    "LOG_INTERVAL": ("1", "seconds between two shipments of the log", _seconds(0.05, 60)),
    "LOG_BACKLOG_BYTES": ("268435456", "bytes of writes that may wait for the bucket; above that 503", _integer(1 << 20, _BYTES_MAX)),
    "DURABILITY": (
        "local",
        "`local`: a write is answered when it is on the disk; `remote`: when it is in the bucket",
        _choice("local", "remote"),
    ),
    "SNAPSHOT_MISSING": ("fail", "what a first start does on an empty S3 prefix: `fail` or `create`", _choice("fail", "create")),
    "SNAPSHOT_UNREACHABLE": (
        "serve",
        "a start that cannot reach the bucket: `serve` reads of what is here, or `fail`",
        _choice("serve", "fail"),
    ),
    "SNAPSHOT_UNSAFE": (
        "no",
        "`yes` accepts a store that does not keep what it promises: two instances may then destroy each other's snapshots",
        lambda text: _choice("yes", "no")(text) == "yes",
    ),
    "SNAPSHOT_ENCRYPTION": ("", "encryption by the store: `AES256`, `aws:kms` or `aws:kms:KEY`", _encryption),
    "SNAPSHOT_KEEP": ("24,7,4", "checkpoints kept beyond the last hour: hourly, daily, weekly", _keep),
    "SNAPSHOT_WINDOW": ("86400", "seconds back to which any moment can be restored", _integer(0, 366 * 86_400)),
    "SNAPSHOT_VERIFY_INTERVAL": ("86400", "seconds between checks of a hundredth of the bucket; 0 for never", _integer(0, 366 * 86_400)),
    "SNAPSHOT_DRILL_INTERVAL": ("604800", "seconds between restores on trial; 0 for never", _integer(0, 366 * 86_400)),
    "SNAPSHOT_HEARTBEAT_URL": (
        "",
        "address that is called while the bucket has everything; its silence is the alarm",
        lambda text: _heartbeat(text) if text else "",
    ),
    "OTEL": (
        "no",
        "`yes` sends a span of each request by OTLP over HTTP, to `OTEL_EXPORTER_OTLP_ENDPOINT`; needs the extra `otel`",
        lambda text: _with_package("opentelemetry.exporter.otlp.proto.http", "otel") if _choice("yes", "no")(text) == "yes" else False,
    ),
    "SENTRY_DSN": (
        "",
        "Sentry project that is sent what the log has as errors; needs the extra `sentry`",
        lambda text: _dsn(text) if text else "",
    ),
    "SENTRY_TRACES_SAMPLE_RATE": ("0", "share of the requests whose times Sentry is sent too, 0 to 1", _fraction),
}
