"""Combinations that cannot work: each is a check of the values that were read, and the same as a JSON Schema."""

from __future__ import annotations

import importlib.util
import ipaddress
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from service.configuration.digits import between
from service.configuration.kinds import Schema
from service.configuration.table import FILE, PREFIX, SECRETS
from service.configuration.texts import NO_BUCKET

Values = Mapping[str, Any]
"""What was read of each setting whose text is right."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
PROFILES = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE")
"""Where boto3 may find a region by itself."""
AWS = ("amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn", "amazonaws.eu")
PLATFORMS = {"FLY_APP_NAME": ("Fly.io", 300), "ECS_CONTAINER_METADATA_URI_V4": ("ECS on Fargate", 120)}
"""Variables that platforms set, and the seconds after which they kill a process that was told to stop, whatever is configured."""


class Rule(msgspec.Struct, frozen=True):
    """`check` gives the problem, or None. It is asked only when all the settings of `needs` could be read."""

    needs: tuple[str, ...]
    check: Callable[[Values, Mapping[str, str]], str | None]
    schema: Schema


def broken(values: Values, environ: Mapping[str, str]) -> list[str]:
    """Every combination that cannot work."""
    found = [rule.check(values, environ) for rule in RULES if all(name in values for name in rule.needs)]
    return [problem for problem in found if problem is not None]


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def _remote(values: Values, _: Mapping[str, str]) -> str | None:
    if values["DURABILITY"] != "remote" or values["SNAPSHOT_URL"] != NO_BUCKET:
        return None
    return f"{PREFIX}DURABILITY='remote': {PREFIX}SNAPSHOT_URL is none, so nothing can be there: name a bucket, or leave the durability out"


def _secret(values: Values, _: Mapping[str, str]) -> str | None:
    if not values["REQUIRE_SECRET"] or values["API_SECRET"] is not None or is_loopback(values["HOST"]):
        return None
    return (
        f"{PREFIX}HOST={values['HOST']!r}: {PREFIX}REQUIRE_SECRET is yes and there is no secret: set {PREFIX}API_SECRET or "
        f"{PREFIX}API_SECRET{FILE}, or listen on 127.0.0.1"
    )


def _redis(values: Values, _: Mapping[str, str]) -> str | None:
    if values["RATE_LIMIT_STORE"] != "redis":
        return None
    if not values["RATE_LIMIT_REDIS_URL"]:
        return f"{PREFIX}RATE_LIMIT_STORE='redis': {PREFIX}RATE_LIMIT_REDIS_URL says where it is: set it, such as redis://host:6379/0"
    if importlib.util.find_spec("redis") is None:
        return f"{PREFIX}RATE_LIMIT_STORE='redis': the client is not installed: install tidepool[redis]"
    return None


def _drain(variable: str, values: Values, environ: Mapping[str, str]) -> str | None:
    platform, most = PLATFORMS[variable]
    if not environ.get(variable) or values["DRAIN_SECONDS"] <= most:
        return None
    return f"{PREFIX}DRAIN_SECONDS={str(values['DRAIN_SECONDS'])!r}: {platform} kills after at most {most} seconds: set less than that"


def _grace(values: Values, _: Mapping[str, str]) -> str | None:
    grace, budget = values["DRAIN_GRACE_SECONDS"], values["DRAIN_SECONDS"]
    if grace * 2 <= budget:
        return None
    most = f"expected at most half of {PREFIX}DRAIN_SECONDS={budget}, because the rest of the stop needs time too"
    return f"{PREFIX}DRAIN_GRACE_SECONDS='{grace}': {most}"


def _package(name: str, module: str, extra: str, values: Values, _: Mapping[str, str]) -> str | None:
    """A setting that needs packages which are not installed. They are looked for, not imported."""
    if not values[name] or _is_installed(module):
        return None
    shown = "(hidden)" if name in SECRETS else "'yes'"
    return f"{PREFIX}{name}={shown}: needs packages that are not installed: run pip install 'tidepool[{extra}]', or leave the variable out"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _region(values: Values, environ: Mapping[str, str]) -> str | None:
    url = values["SNAPSHOT_URL"]
    endpoint = next((environ[name] for name in ENDPOINTS if environ.get(name)), "")
    ours = not endpoint or _is_aws(urlsplit(endpoint).hostname or "")
    if not url.startswith("s3:") or not ours or any(environ.get(name) for name in (*REGIONS, *PROFILES)) or _has_profile(environ):
        return None
    return (
        f"{PREFIX}SNAPSHOT_URL={url!r}: neither a region nor an endpoint is known: set AWS_REGION for Amazon's S3, "
        "or AWS_ENDPOINT_URL_S3 for another store"
    )


def _is_aws(host: str) -> bool:
    return any(host == domain or host.endswith("." + domain) for domain in AWS)


def _has_profile(environ: Mapping[str, str]) -> bool:
    home = environ.get("HOME", "")
    return bool(home) and Path(home, ".aws", "config").is_file()


def _is(name: str, **schema: Any) -> Schema:
    """The variable is there, and so."""
    return {"required": [PREFIX + name], "properties": {PREFIX + name: schema}}


def _has(*names: str) -> Schema:
    """One of the variables is there."""
    return {"anyOf": [{"required": [name]} for name in names]}


_YES, _REMOTE, _REDIS = "^[yY][eE][sS]$", "^[rR][eE][mM][oO][tT][eE]$", "^[rR][eE][dD][iI][sS]$"
_LOOPBACK = r"^(localhost|127\..*|::1)$"
_AWS_HOST = "^https?://([^/]*\\.)?(" + "|".join(domain.replace(".", r"\.") for domain in AWS) + ")(:[0-9]+)?/?$"

RULES = (
    Rule(
        ("DURABILITY", "SNAPSHOT_URL"),
        _remote,
        {"not": {"allOf": [_is("DURABILITY", pattern=_REMOTE), _is("SNAPSHOT_URL", const=NO_BUCKET)]}},
    ),
    Rule(
        ("REQUIRE_SECRET", "API_SECRET", "HOST"),
        _secret,
        {
            "if": {"allOf": [_is("REQUIRE_SECRET", pattern=_YES), _is("HOST", **{"not": {"pattern": _LOOPBACK}})]},
            "then": _has(f"{PREFIX}API_SECRET", f"{PREFIX}API_SECRET{FILE}"),
        },
    ),
    Rule(
        ("RATE_LIMIT_STORE", "RATE_LIMIT_REDIS_URL"),
        _redis,
        {
            "if": _is("RATE_LIMIT_STORE", pattern=_REDIS),
            "then": {"anyOf": [_is("RATE_LIMIT_REDIS_URL", minLength=1), _has(f"{PREFIX}RATE_LIMIT_REDIS_URL{FILE}")]},
        },
    ),
    *(
        Rule(
            ("DRAIN_SECONDS",),
            partial(_drain, variable),
            {"if": _has(variable), "then": {"properties": {f"{PREFIX}DRAIN_SECONDS": {"pattern": f"^0*({between(0, most)})$"}}}},
        )
        for variable, (_, most) in PLATFORMS.items()
    ),
    Rule(("DRAIN_GRACE_SECONDS", "DRAIN_SECONDS"), _grace, {}),
    Rule(("OTEL",), partial(_package, "OTEL", "opentelemetry.exporter.otlp.proto.http", "otel"), {}),
    Rule(("SENTRY_DSN",), partial(_package, "SENTRY_DSN", "sentry_sdk", "sentry"), {}),
    Rule(
        ("SNAPSHOT_URL",),
        _region,
        {
            "if": _is("SNAPSHOT_URL", pattern="^s3:"),
            "then": {
                "anyOf": [
                    _has(*REGIONS, *PROFILES),
                    *({"required": [name], "properties": {name: {"not": {"pattern": _AWS_HOST}}}} for name in ENDPOINTS),
                ]
            },
        },
    ),
)
ONE_OF_BOTH = [{"not": {"required": [PREFIX + name, PREFIX + name + FILE]}} for name in SECRETS]
"""A secret stands in one place."""
