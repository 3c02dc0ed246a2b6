"""What the environment says of S3, by the names that AWS gives, and how a store that is not AWS is talked to. Pure: nothing is sent.

Credentials other than keys (a profile, a role of the task, the machine or the pod) are found by boto3 itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from snapshots.errors import Refused

ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
CHECKSUMS = ("when_required", "when_supported")
AWS = ("amazonaws.com", "amazonaws.com.cn", "api.aws", "api.amazonwebservices.com.cn", "amazonaws.eu")
TIGRIS = ("tigris.dev", "storage.dev")
NAMES_IN_HOSTS = (*TIGRIS, "aliyuncs.com", "myqcloud.com")  # these no longer take the bucket's name in the path
KMS = re.compile(r"aws:kms(?::(arn:\S+|alias/\S+|mrk-[0-9a-f]+|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}))?")


class Manner(msgspec.Struct, frozen=True):
    """How one kind of store wants to be asked."""

    addressing: str
    request_checksums: str
    response_checksums: str
    headers: dict[str, str]


def endpoint_of(environment: Mapping[str, str]) -> str | None:
    name, value = _first(environment, ENDPOINTS)
    if value is not None and not re.fullmatch(r"https?://[^\s/@?#]+/?", value):
        raise Refused(f"not an endpoint: {name} is written as https://host or http://host:port")
    return value


def keys_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The credentials that the environment itself holds, as parameters of boto3; empty when they are elsewhere."""
    key, secret = (environment.get(name) for name in KEYS)
    if not key and not secret:
        return {}
    if not key or not secret:
        present, absent = KEYS if key else KEYS[::-1]
        raise Refused(f"half of the credentials: {present} is set and {absent} is not")
    token = environment.get("AWS_SESSION_TOKEN")
    return {"aws_access_key_id": key, "aws_secret_access_key": secret} | ({"aws_session_token": token} if token else {})


def region_of(environment: Mapping[str, str]) -> str | None:
    return _first(environment, REGIONS)[1]


def manner_of(endpoint: str, environment: Mapping[str, str]) -> Manner:
    """Stores other than AWS know only some checksums: those that are sent although nobody asked end up refused, or inside the object."""
    host = urlsplit(endpoint).hostname or ""
    usual = "when_supported" if _within(host, AWS) else "when_required"
    return Manner(
        addressing="auto" if _within(host, AWS) else "virtual" if _within(host, NAMES_IN_HOSTS) else "path",
        request_checksums=_checksums(environment, "AWS_REQUEST_CHECKSUM_CALCULATION", usual),
        response_checksums=_checksums(environment, "AWS_RESPONSE_CHECKSUM_VALIDATION", usual),
        # Without it, Tigris answers from the nearest region, also whether a name is taken.
        headers={"X-Tigris-Consistent": "true"} if _within(host, TIGRIS) else {},
    )


def encryption_parameters(encryption: str) -> dict[str, str]:
    """What every object is stored with."""
    if not encryption:
        return {}
    if encryption == "AES256":
        return {"ServerSideEncryption": encryption}
    match = KMS.fullmatch(encryption)
    if not match:
        raise Refused(f"no such encryption encryption={encryption!r}: AES256, aws:kms or aws:kms:<key id, alias/… or ARN>")
    return {"ServerSideEncryption": "aws:kms"} | ({"SSEKMSKeyId": match[1]} if match[1] else {})


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> tuple[str, str | None]:
    """The first variable that is set and not empty."""
    return next(((name, environment[name]) for name in names if environment.get(name)), (names[0], None))


def _within(host: str, domains: tuple[str, ...]) -> bool:
    return any(host == domain or host.endswith("." + domain) for domain in domains)


def _checksums(environment: Mapping[str, str], name: str, usual: str) -> str:
    value = (environment.get(name) or usual).lower()
    if value not in CHECKSUMS:
        raise Refused(f"{name}={value!r} is neither {CHECKSUMS[0]} nor {CHECKSUMS[1]}")
    return value
