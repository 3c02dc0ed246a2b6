"""S3 as a bucket on a real store: the suite on Ceph's gateway, which checks signatures. All tests that need it are here: it starts once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import msgspec
import pytest

from snapshots.addresses import open_bucket
from snapshots.errors import Refused
from snapshots.s3 import S3Bucket
from tests.snapshots.bucket_suite import BODY, S3Suite, refused_by_all
from tests.stores import Store


class TestCeph(S3Suite):
    """The suite, with pages so small that lists have several."""

    @pytest.fixture
    def bucket(self, ceph: Store) -> Iterator[S3Bucket]:
        url = ceph.url
        bucket = S3Bucket(ceph.bucket, url.rpartition("/")[2], ceph.environment, page_keys=3)
        yield bucket
        bucket.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId.*check AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "SignatureDoesNotMatch.*check AWS_SECRET_ACCESS_KEY, and AWS_REGION"),
    ],
)
def test_wrong_credentials(ceph: Store, wrong: dict[str, str], told: str) -> None:
    """Every call says which setting is wrong, and no secret."""
    bucket = open_bucket(ceph.url, ceph.environment | wrong)
    refused_by_all(bucket, told=told)
    with pytest.raises(Refused) as refusal:
        bucket.head("v1/a")
    bucket.close()
    assert not any(secret in str(refusal.value) for secret in ("guessed", ceph.secret_key))


def test_a_missing_bucket(ceph: Store) -> None:
    """Is an error for every call, never an empty bucket."""
    bucket = open_bucket("s3://no-such-bucket", ceph.environment)
    refused_by_all(bucket, told="NoSuchBucket.*check the name in the URL")
    bucket.close()


def test_an_encryption_that_the_store_cannot_do(ceph: Store) -> None:
    """Refused when the first object is stored, not ignored."""
    bucket = open_bucket(ceph.url, ceph.environment, encryption="aws:kms:alias/tide")
    with pytest.raises(Refused, match="InvalidRequest"):
        bucket.create("v1/a", BODY)
    bucket.close()


def test_a_profile(ceph: Store, nobody: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials, region and endpoint stand in the files of AWS; the environment names the profile."""
    (tmp_path / "credentials").write_text(f"[tide]\naws_access_key_id = {ceph.access_key}\naws_secret_access_key = {ceph.secret_key}\n")
    (tmp_path / "config").write_text(f"[profile tide]\nregion = us-east-1\nendpoint_url = {ceph.endpoint}\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    works(ceph, {"AWS_PROFILE": "tide"})
    with pytest.raises(Refused, match="no credentials"):
        works(ceph, {"AWS_PROFILE": "pool"})


def test_a_role_of_the_task(ceph: Store, nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the address that a container is told; nothing else is set but the endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expires = "2099-01-01T00:00:00Z"
            keys = {"AccessKeyId": ceph.access_key, "SecretAccessKey": ceph.secret_key, "Token": "", "Expiration": expires}
            body = msgspec.json.encode(keys)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the standard library
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/keys")
        try:
            works(ceph, {"AWS_ENDPOINT_URL_S3": ceph.endpoint})
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_names_of_the_endpoint(ceph: Store, name: str) -> None:
    """The one for S3 wins over the one for all services."""
    usual = ceph.environment
    del usual["AWS_ENDPOINT_URL_S3"]
    works(ceph, {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_DEFAULT_REGION": "eu-central-1"} | usual | {name: ceph.endpoint})


def works(store: Store, environment: Mapping[str, str]) -> None:
    bucket = open_bucket(store.url, environment)
    try:
        assert bucket.create("v1/a", BODY)
        assert bucket.get("v1/a") == BODY
    finally:
        bucket.close()
