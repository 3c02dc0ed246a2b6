"""Every setting: default, meaning, how its text is read. The README, the JSON Schema and `tidepool config` are made of this table."""

from __future__ import annotations

import msgspec

from service.configuration import kinds, texts
from service.configuration.kinds import Kind

PREFIX = "ISCC_SEARCH_"
FILE = "_FILE"
"""Behind the name of a secret: the file that holds it."""
CODES_MAX = 1 << 40
BYTES_MAX = 1 << 40


class Setting(msgspec.Struct, frozen=True):
    """One row. `default` None: it follows from the machine, or there is none."""

    default: str | None
    description: str
    kind: Kind
    secret: bool = False
    """Never shown, and may stand in a file."""


SETTINGS: dict[str, Setting] = {
    "INDEX_URI": Setting(
        "~/.local/share/tidepool", "where the data stands: `usearch:///path` or a plain path", kinds.text_of(texts.directory, minLength=1)
    ),
    "HOST": Setting(
        "127.0.0.1", "IP address to listen on; `0.0.0.0` for all networks (set a secret then)", kinds.text_of(kinds.host, minLength=1)
    ),
    "PORT": Setting("8000", "TCP port to listen on", kinds.integer(1, 65535)),
    "WORKERS": Setting("1", "always 1: one process owns the data", kinds.text_of(texts.one_worker, const="1")),
    "LOG_LEVEL": Setting(
        "info", "`debug`, `info`, `warning`, `error` or `critical`", kinds.choice("debug", "info", "warning", "error", "critical")
    ),
    "API_SECRET": Setting(
        None,
        "key that clients send as `X-API-Key`; without it everybody may do everything",
        kinds.text_of(texts.secret, pattern=r"^[!-~]([ -~]*[!-~])?$"),
        secret=True,
    ),
    "REQUIRE_SECRET": Setting("no", "`yes` refuses to listen to other machines without a secret", kinds.yes_or_no()),
    "CORS_ORIGINS": Setting("*", "origins whose pages may call the service, separated by commas", kinds.text_of(texts.origins)),
    "MATCH_THRESHOLD_UNITS": Setting("0.75", "lowest similarity of a unit that makes an asset a match", kinds.fraction()),
    "MATCH_THRESHOLD_SIMPRINTS": Setting("0.75", "lowest similarity of a simprint that makes a chunk a match", kinds.fraction()),
    "CONFIDENCE_EXPONENT": Setting("4", "exponent that weighs the similarities of one asset in its score", kinds.integer(1, 64)),
    "EXACT_MAX_CODES": Setting("100000000", "codes of one type above which searches go through graphs", kinds.integer(0, CODES_MAX)),
    "MAX_CANDIDATES": Setting("100000", "assets that one search may gather before it is cut", kinds.integer(1, 100_000_000)),
    "MAX_CHUNK_POSTINGS": Setting(
        "1000000", "assets of matching simprints that one search may read before it is cut", kinds.integer(1, CODES_MAX)
    ),
    "SEGMENT_CODES": Setting("65536", "codes that are sealed into one segment file, and so into one graph", kinds.integer(16, CODES_MAX)),
    "DISK_FREE_MIN_BYTES": Setting("268435456", "room on the disk below which writes are refused with 507", kinds.integer(0, BYTES_MAX)),
    "MEMORY_MAX_BYTES": Setting(
        None,
        "own memory above which background work waits; 0 for no limit; without it 85 % of the container's limit, if it has one",
        kinds.integer(0, BYTES_MAX),
    ),
    "MAX_BODY_BYTES": Setting("33554432", "bytes of a request body", kinds.integer(1024, 1 << 30)),
    "MAX_QUERY_BYTES": Setting("1048576", "bytes of the body of a search", kinds.integer(1024, 1 << 30)),
    "MAX_ASSETS": Setting("1000", "assets in one request", kinds.integer(1, 1_000_000)),
    "MAX_UNITS": Setting("64", "units of one asset or one search", kinds.integer(1, 10_000)),
    "MAX_SIMPRINTS": Setting("100000", "simprints of one asset", kinds.integer(1, 10_000_000)),
    "MAX_QUERY_SIMPRINTS": Setting("1000", "simprints of one search, also of one by ISCC-ID", kinds.integer(1, 1_000_000)),
    "MAX_METADATA_BYTES": Setting("1048576", "bytes of the metadata of one asset", kinds.integer(2, 1 << 30)),
    "MAX_LIMIT": Setting("1000", "highest `limit` of a search", kinds.integer(1, 1_000_000)),
    "READ_THREADS": Setting(None, "threads that search; without it one for each processor, at most 8", kinds.integer(1, 64)),
    "READ_QUEUE": Setting("256", "searches that may wait for a thread; above that 503", kinds.integer(1, 100_000)),
    "READ_QUEUE_BYTES": Setting(
        "268435456", "bytes of the requests that arrive or wait to be read; above that 503", kinds.integer(1024, BYTES_MAX)
    ),
    "WRITE_QUEUE": Setting("1024", "writes that may wait for a commit; above that 503", kinds.integer(1, 100_000)),
    "WRITE_QUEUE_BYTES": Setting("134217728", "bytes of the writes that wait; above that 503", kinds.integer(1024, BYTES_MAX)),
    "MAX_REQUESTS": Setting("500", "requests that are answered at the same time; above that 503", kinds.integer(1, 100_000)),
    "REQUEST_SECONDS": Setting("60", "time to answer a request, after its body has come; then 503", kinds.integer(1, 3600)),
    "RATE_LIMIT": Setting(
        "",
        "searches without the key for each client address, such as `60/minute` (second, minute, hour, day)",
        kinds.optional(kinds.RATE, None),
    ),
    "RATE_LIMIT_STORE": Setting(
        "local", "where they are counted: `local`, in this process, or `redis`, shared by all instances", kinds.choice("local", "redis")
    ),
    "RATE_LIMIT_REDIS_URL": Setting(
        "",
        "`redis://host:6379/0`; needs the extra `redis`",
        kinds.optional(kinds.text_of(texts.redis_url, pattern="^(rediss?|unix)://")),
        secret=True,
    ),
    "TRUSTED_PROXIES": Setting(
        "", "networks whose `X-Forwarded-For` is believed, such as `10.0.0.0/8,fd00::/8`", kinds.text_of(kinds.networks)
    ),
    "GRAPHS": Setting("yes", "`no` searches without graphs, however many codes there are", kinds.yes_or_no()),
    "SIMPRINTS": Setting("yes", "`no` refuses simprints, and searches units only", kinds.yes_or_no()),
    "DOCS": Setting("yes", "`no` answers `/docs` and `/openapi` with 404", kinds.yes_or_no()),
    "METRICS": Setting("yes", "`no` counts nothing and answers `/metrics` with 404", kinds.yes_or_no()),
    "DRAIN_SECONDS": Setting("30", "time after SIGTERM to finish accepted requests and to ship the end of the log", kinds.integer(1, 3600)),
    "DRAIN_GRACE_SECONDS": Setting(
        "0",
        "of that time, how long requests are still answered after readiness has ended: until whoever sends them here knows",
        kinds.integer(0, 1800),
    ),
    "SNAPSHOT_URL": Setting(
        "",
        (
            "bucket that keeps the data: `file:///path`, `s3://bucket/prefix` or `none`; without it `s3://$BUCKET_NAME/tidepool` where "
            "Fly.io set that name, else the directory `bucket` beside the data"
        ),
        kinds.optional(kinds.text_of(texts.bucket_url, pattern=r"^(none|file:///.*[^/].*|s3:///*[^/].*)$")),
    ),
    "SNAPSHOT_INTERVAL": Setting("300", "seconds between the questions whether a checkpoint is due", kinds.integer(1, 86_400)),
    "LOG_INTERVAL": Setting("1", "seconds between two shipments of the log", kinds.seconds(0.05, 60)),
    "LOG_BACKLOG_BYTES": Setting(
        "268435456", "bytes of writes that may wait for the bucket; above that 503", kinds.integer(1 << 20, BYTES_MAX)
    ),
    "DURABILITY": Setting(
        "local",
        "`local`: a write is answered when it is on the disk; `remote`: when it is in the bucket",
        kinds.choice("local", "remote"),
    ),
    "SNAPSHOT_MISSING": Setting(
        "fail", "what a first start does on an empty S3 prefix: `fail` or `create`", kinds.choice("fail", "create")
    ),
    "SNAPSHOT_UNREACHABLE": Setting(
        "serve",
        "a start that cannot reach the bucket: `serve` reads of what is here, or `fail`",
        kinds.choice("serve", "fail"),
    ),
    "SNAPSHOT_UNSAFE": Setting(
        "no",
        "`yes` accepts a store that does not keep what it promises: two instances may then destroy each other's snapshots",
        kinds.yes_or_no(),
    ),
    "SNAPSHOT_ENCRYPTION": Setting(
        "",
        "encryption by the store: `AES256`, `aws:kms` or `aws:kms:KEY`",
        kinds.text_of(texts.encryption, pattern="^(|AES256|aws:kms|aws:kms:.*)$"),
    ),
    "SNAPSHOT_KEEP": Setting(
        "24,7,4",
        "checkpoints kept beyond the last hour: hourly, daily, weekly",
        kinds.text_of(texts.keep, pattern=r"^\s*[0-9]{1,4}\s*,\s*[0-9]{1,4}\s*,\s*[0-9]{1,4}\s*$"),
    ),
    "SNAPSHOT_WINDOW": Setting("86400", "seconds back to which any moment can be restored", kinds.integer(0, 366 * 86_400)),
    "SNAPSHOT_VERIFY_INTERVAL": Setting(
        "86400", "seconds between checks of a hundredth of the bucket; 0 for never", kinds.integer(0, 366 * 86_400)
    ),
    "SNAPSHOT_DRILL_INTERVAL": Setting("604800", "seconds between restores on trial; 0 for never", kinds.integer(0, 366 * 86_400)),
    "SNAPSHOT_HEARTBEAT_URL": Setting(
        "",
        "address that is called while the bucket has everything; its silence is the alarm",
        kinds.optional(kinds.text_of(texts.web_address, pattern="^https?:")),
        secret=True,
    ),
    "OTEL": Setting(
        "no",
        "`yes` sends a span of each request by OTLP over HTTP, to `OTEL_EXPORTER_OTLP_ENDPOINT`; needs the extra `otel`",
        kinds.yes_or_no(),
    ),
    "SENTRY_DSN": Setting(
        "",
        "Sentry project that is sent what the log has as errors; needs the extra `sentry`",
        kinds.optional(kinds.text_of(texts.sentry_dsn, pattern="^https?://[^/@]+@")),
        secret=True,
    ),
    "SENTRY_TRACES_SAMPLE_RATE": Setting("0", "share of the requests whose times Sentry is sent too, 0 to 1", kinds.fraction()),
}
SECRETS = tuple(name for name, setting in SETTINGS.items() if setting.secret)

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
