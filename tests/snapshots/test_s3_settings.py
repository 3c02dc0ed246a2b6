"""What the environment says of S3, and how stores that are not AWS are asked."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from snapshots.addresses import open_bucket
from snapshots.errors import Refused, Unreachable
from snapshots.patience import Patience
from snapshots.s3 import S3Bucket
from snapshots.s3_settings import encryption_parameters, endpoint_of, manner_of, region_of
from tests.stores import Faulty, Store, faulty_store
from tests.stores.faulty import answer

TIGRIS = {
    "AWS_ACCESS_KEY_ID": "tid_key",
    "AWS_SECRET_ACCESS_KEY": "tsec_secret",
    "AWS_ENDPOINT_URL_S3": "http://fly.storage.tigris.dev",
    "AWS_REGION": "auto",
    "BUCKET_NAME": "tide",
}


def test_the_endpoint() -> None:
    """The name for S3 alone wins; an empty value is none."""
    both = {"AWS_ENDPOINT_URL_S3": "https://t3.storage.dev", "AWS_ENDPOINT_URL": "https://all.example"}
    assert endpoint_of(both) == "https://t3.storage.dev"
    assert endpoint_of(both | {"AWS_ENDPOINT_URL_S3": ""}) == "https://all.example"
    assert endpoint_of({}) is None


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
@pytest.mark.parametrize(
    "value", ["t3.storage.dev", "s3://t3.storage.dev", "https://", "https://key:hidden@host", "https://host/path", "a b"]
)
def test_what_is_no_endpoint(name: str, value: str) -> None:
    """The sentence names the variable, not the value: it may hold a password."""
    with pytest.raises(Refused, match=f"{name} is written as https://host or http://host:port") as refusal:
        endpoint_of({name: value})
    assert "hidden" not in str(refusal.value)


def test_the_region() -> None:
    """The name that AWS's own machines set wins over the older one."""
    assert region_of({"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-east-1"}) == "eu-central-1"
    assert region_of({"AWS_REGION": "", "AWS_DEFAULT_REGION": "us-east-1"}) == "us-east-1"
    assert region_of({}) is None


@pytest.mark.parametrize(
    ("endpoint", "addressing", "checksums", "headers"),
    [
        ("https://s3.eu-central-1.amazonaws.com", "auto", "when_supported", {}),
        ("https://s3.cn-north-1.amazonaws.com.cn", "auto", "when_supported", {}),
        ("https://t3.storage.dev", "virtual", "when_required", {"X-Tigris-Consistent": "true"}),
        ("https://fly.storage.tigris.dev", "virtual", "when_required", {"X-Tigris-Consistent": "true"}),
        ("https://oss-eu-central-1.aliyuncs.com", "virtual", "when_required", {}),
        ("https://account.r2.cloudflarestorage.com", "path", "when_required", {}),
        ("http://127.0.0.1:9000", "path", "when_required", {}),
        ("https://notamazonaws.com", "path", "when_required", {}),
        ("https://amazonaws.com.example", "path", "when_required", {}),
    ],
)
def test_manners(endpoint: str, addressing: str, checksums: str, headers: dict[str, str]) -> None:
    """Where the name of the bucket stands, which checksums are sent, what else a store wants."""
    manner = manner_of(endpoint, {})
    assert (manner.addressing, manner.request_checksums, manner.response_checksums) == (addressing, checksums, checksums)
    assert manner.headers == headers


def test_checksums_can_be_set() -> None:
    """By the names of AWS, each on its own; other words are refused."""
    manner = manner_of("http://127.0.0.1:9000", {"AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_SUPPORTED"})
    assert (manner.request_checksums, manner.response_checksums) == ("when_supported", "when_required")
    manner = manner_of("https://s3.amazonaws.com", {"AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required"})
    assert (manner.request_checksums, manner.response_checksums) == ("when_supported", "when_required")
    with pytest.raises(Refused, match="AWS_REQUEST_CHECKSUM_CALCULATION='never' is neither when_required nor when_supported"):
        manner_of("https://s3.amazonaws.com", {"AWS_REQUEST_CHECKSUM_CALCULATION": "never"})


def test_encryption() -> None:
    """A key is named by its id, its alias or its ARN."""
    assert encryption_parameters("") == {}
    for key in ("alias/tide", "arn:aws:kms:eu-central-1:1:key/2", "mrk-0a", "12345678-1234-1234-1234-123456789abc"):
        assert encryption_parameters(f"aws:kms:{key}") == {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}


@pytest.fixture
def internet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    """Everything that is sent to any host arrives here. Plain HTTP is answered: no such object."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    with faulty_store(Store("http://127.0.0.1:1", "", "", "")) as faulty:
        faulty.always("GET", answer(404, "NoSuchKey"))
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, faulty.store.endpoint)
        yield faulty


def test_what_fly_io_sets_is_enough(internet: Faulty) -> None:
    """Tigris is asked at the bucket's own host, consistently, signed for its region, without checksums."""
    bucket = open_bucket("s3://tide/pool", TIGRIS)
    assert bucket.head("v1/a") is None
    bucket.close()
    (request,) = internet.seen
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert request.path == "http://tide.fly.storage.tigris.dev/pool/v1/a"
    assert headers["x-tigris-consistent"] == "true"
    assert "/auto/s3/aws4_request" in headers["authorization"]
    assert "Credential=tid_key/" in headers["authorization"]
    assert not any("checksum" in name for name in headers)


def test_what_a_task_in_ecs_has_is_enough(internet: Faulty) -> None:
    """Without an endpoint, AWS is asked at the bucket's own host in the region of the task, by TLS."""
    internet.always("CONNECT", answer(502))
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "session"}
    bucket = S3Bucket("tide", "pool", keys | {"AWS_REGION": "eu-central-1"}, patience=Patience(total_s=0.1))
    with pytest.raises(Unreachable, match=r"endpoint=https://s3.eu-central-1.amazonaws.com"):
        bucket.head("v1/a")
    bucket.close()
    assert internet.seen[0].path == "tide.s3.eu-central-1.amazonaws.com:443"


def test_an_endpoint_within_aws(internet: Faulty) -> None:
    """Of a private network, say: signed for the region, with the token of the session."""
    environment = TIGRIS | {"AWS_REGION": "eu-central-1", "AWS_ENDPOINT_URL_S3": "http://s3.eu-central-1.amazonaws.com"}
    bucket = open_bucket("s3://tide/pool", environment | {"AWS_SESSION_TOKEN": "session"})
    assert bucket.head("v1/a") is None
    bucket.close()
    (request,) = internet.seen
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["x-amz-security-token"] == "session"
    assert "/eu-central-1/s3/aws4_request" in headers["authorization"]
    assert "x-tigris-consistent" not in headers
