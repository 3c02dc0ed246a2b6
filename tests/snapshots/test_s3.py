"""S3 as a bucket: the suite on moto, uploads in parts, encryption, checksums, TLS, connections."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from werkzeug.serving import make_ssl_devcert

from snapshots.addresses import open_bucket
from snapshots.errors import Missing, Refused, Unreachable
from snapshots.patience import Patience
from snapshots.s3 import S3Bucket
from tests.snapshots.bucket_suite import BODY, MIB, S3Suite, refused_by_all
from tests.snapshots.impatient import SLOW_DOWN, Opened
from tests.stores import Faulty, Store, faulty_store
from tests.stores.faulty import Fault, Request, answer, late, reset


class TestMoto(S3Suite):
    """The suite, with pages so small that lists have several."""

    uploads_began_s = datetime(2010, 11, 10, 20, 48, 33, tzinfo=UTC).timestamp()

    @pytest.fixture
    def bucket(self, moto: Store, opened: Opened) -> S3Bucket:
        return opened(moto, Patience(), page_keys=3)


@pytest.mark.parametrize("end", ["", "/"])
def test_without_a_prefix(moto: Store, end: str) -> None:
    """Keys begin at the top of the bucket, also when its URL ends with a slash."""
    bucket = open_bucket(f"s3://{moto.bucket}{end}", moto.environment)
    bucket.replace("v1/top", BODY)
    assert [entry.key for entry in bucket.list("v1/t")] == ["v1/top"]
    assert bucket.get("v1/top") == BODY
    assert bucket.url == f"s3://{moto.bucket}"
    bucket.close()


def test_prefixes_do_not_see_each_other(moto: Store, opened: Opened) -> None:
    """Also when one begins like the other."""
    one, other = opened(moto, prefix="pool"), opened(moto, prefix="pool2/a")
    one.create("v1/a", BODY)
    other.create("v1/b", BODY)
    assert [entry.key for entry in one.list("")] == ["v1/a"]
    assert [entry.key for entry in other.list("")] == ["v1/b"]


def test_a_missing_bucket(moto: Store) -> None:
    """Is an error for every call, never an empty bucket; also for a look, whose answer has no body in S3."""
    bucket = open_bucket("s3://no-such-bucket/x", moto.environment)
    refused_by_all(bucket, told="NoSuchBucket.*bucket=no-such-bucket .*check the name in the URL, and AWS_ENDPOINT_URL_S3")
    bucket.close()


@pytest.mark.timing
@pytest.mark.parametrize("fault", [SLOW_DOWN, reset, late])
def test_parts_are_sent_again(faulty: Faulty, opened: Opened, tmp_path: Path, fault: Fault) -> None:
    """A part, the beginning and the end of an upload: each may fail, or lose its answer."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(65 * MIB))
    bucket = opened(faulty.store, Patience(read_s=1.0, total_s=30, first_pause_s=0.01))
    faulty.next("POST", fault, lambda request: request.reply(request.pass_on()), fault)
    faulty.next("PUT", fault)
    bucket.put_file("v1/blobs/a", file, 0, 65 * MIB)
    assert bucket.get("v1/blobs/a") == file.read_bytes()


def test_uploads_that_may_not_be_listed(faulty: Faulty, opened: Opened) -> None:
    """Refused, with the store's words; one that vanished meanwhile is no error."""
    bucket = opened(faulty.store)
    for code, status in (("AccessDenied", 403), ("NotImplemented", 501), ("MethodNotAllowed", 405)):
        faulty.next("GET", answer(status, code))
        with pytest.raises(Refused, match=code):
            bucket.abort_uploads("v1/", 0.0)
    bucket._client.send("create_multipart_upload", **bucket._place("v1/a"))
    faulty.next("DELETE", answer(404, "NoSuchUpload"))
    assert bucket.abort_uploads("v1/", time.time() + 60) == 1


def test_a_failed_upload_is_taken_back(faulty: Faulty, opened: Opened, tmp_path: Path) -> None:
    """Nothing is visible, and the store keeps no parts."""
    file = tmp_path / "file"
    file.write_bytes(bytes(65 * MIB))
    bucket = opened(faulty.store)
    faulty.next("PUT", answer(403, "AccessDenied"))
    with pytest.raises(Refused, match="AccessDenied"):
        bucket.put_file("v1/blobs/a", file, 0, 65 * MIB)
    assert bucket.head("v1/blobs/a") is None
    prefix = bucket.url.rpartition("/")[2]
    assert "Uploads" not in _asked(faulty.store, "list_multipart_uploads", Bucket=faulty.store.bucket, Prefix=prefix)


def test_an_upload_that_the_store_lost(faulty: Faulty, opened: Opened, tmp_path: Path) -> None:
    """Unreachable: the whole may be sent again later."""
    file = tmp_path / "file"
    file.write_bytes(bytes(65 * MIB))
    bucket = opened(faulty.store)
    faulty.next("PUT", answer(404, "NoSuchUpload"))
    with pytest.raises(Unreachable, match="lost an upload"):
        bucket.put_file("v1/blobs/a", file, 0, 65 * MIB)


@pytest.mark.parametrize("encryption", ["", "AES256", "aws:kms", "aws:kms:alias/tide"])
def test_encryption_is_asked_for(faulty: Faulty, tmp_path: Path, encryption: str) -> None:
    """With everything that stores an object, and with nothing else."""
    kind, key = encryption[:7], encryption[8:]
    wanted = {"x-amz-server-side-encryption": kind, "x-amz-server-side-encryption-aws-kms-key-id": key}
    file = tmp_path / "file"
    file.write_bytes(bytes(65 * MIB))
    bucket = open_bucket(faulty.store.url, faulty.store.environment, encryption=encryption)
    bucket.create("v1/a", BODY)
    bucket.replace("v1/a", BODY)
    bucket.put_file("v1/b", file, 0, 10)
    if key:
        bucket.put_file("v1/b", file, 0, 65 * MIB)
    bucket.get("v1/a")
    bucket.close()
    *stored, read = [encryption_headers(request) for request in faulty.seen if "uploadId" not in request.path]
    assert len(stored) in (3, 4)
    assert all(each == {name: value for name, value in wanted.items() if value} for each in stored)
    assert read == {}


def encryption_headers(request: Request) -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items() if "encryption" in name.lower()}


def test_checksums_that_nobody_asked_for_are_not_sent(faulty: Faulty, opened: Opened) -> None:
    """A store that does not know them would refuse them, or keep them inside the object."""
    opened(faulty.store).create("v1/a", BODY)
    (request,) = faulty.seen
    assert [name for name in request.headers if "checksum" in name.lower() or "trailer" in name.lower()] == []
    faulty.seen.clear()
    asking = faulty.store.environment | {"AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported"}
    bucket = open_bucket(faulty.store.url, asking)
    bucket.create("v1/a", BODY)
    bucket.close()
    assert "x-amz-checksum-crc32" in {name.lower() for name in faulty.seen[0].headers}


def test_as_aws_is_asked(moto: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By TLS, and with a checksum behind each body: what is stored is the body alone. Without trust in the certificate nothing is sent."""
    certificate = make_ssl_devcert(str(tmp_path / "tls"), host="localhost")
    file = tmp_path / "file"
    file.write_bytes(os.urandom(65 * MIB))
    with faulty_store(moto, certificate) as faulty:
        asking = faulty.store.environment | {
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_supported",
            "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_supported",
        }
        distrusting = open_bucket(faulty.store.url, asking)
        refused_by_all(distrusting, told="check AWS_ENDPOINT_URL_S3 and AWS_CA_BUNDLE")
        distrusting.close()
        monkeypatch.setenv("AWS_CA_BUNDLE", certificate[0])
        bucket = open_bucket(faulty.store.url, asking)
        assert bucket.create("v1/a", BODY)
        assert bucket.create("v1/a", BODY)
        assert not bucket.create("v1/a", BODY[::-1])
        assert bucket.get("v1/a") == BODY
        assert bucket.get("v1/a", 5, 10) == BODY[5:15]
        assert bucket.read("v1/a", 0, len(BODY), bytes) == len(BODY)
        for length in (1000, 65 * MIB):
            bucket.put_file("v1/blobs/a", file, 0, length)
            assert bucket.get("v1/blobs/a") == file.read_bytes()[:length]
        bucket.close()
    trailers = {request.headers.get("X-Amz-Trailer") for request in faulty.seen if request.method == "PUT"}
    assert trailers == {"x-amz-checksum-crc32"}


def test_lists_that_are_not_in_order(faulty: Faulty, opened: Opened) -> None:
    """Refused: who reads on from a name would miss some."""
    bucket = opened(faulty.store)
    for name in ("v1/a", "v1/b"):
        bucket.create(name, BODY)

    def turned(request: Request) -> None:
        found = request.pass_on()
        body = found.body.replace(b"/v1/a<", b"/v1/c<")
        request.reply(found._replace(body=body))

    faulty.next("GET", turned)
    with pytest.raises(Refused, match="does not list in the order of names"):
        list(bucket.list(""))


def test_connections_are_kept(faulty: Faulty, opened: Opened) -> None:
    """Requests of one thread use one connection, also those that look and those that find nothing."""
    bucket = opened(faulty.store)
    for number in range(5):
        bucket.create(f"v1/{number}", BODY)
        bucket.head(f"v1/{number}")
        bucket.head("v1/none")
        with pytest.raises(Missing):
            bucket.get("v1/none")
        bucket.get(f"v1/{number}", 3, 7)
        bucket.read(f"v1/{number}", 3, 7, bytes)
        list(bucket.list(""))
    assert len({request.peer for request in faulty.seen}) == 1


def _asked(store: Store, operation: str, **parameters: str) -> dict[str, object]:
    client = store.client()
    try:
        return dict(getattr(client, operation)(**parameters))
    finally:
        client.close()
