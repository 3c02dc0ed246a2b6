"""S3 as a bucket: the suite on moto, and what a bucket does when requests fail, hang, get lost or lie."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from werkzeug.serving import make_ssl_devcert

from snapshots.addresses import open_bucket
from snapshots.bucket import Bucket
from snapshots.errors import Missing, Refused, Unreachable
from snapshots.patience import Patience
from snapshots.probe import probe
from snapshots.s3 import S3Bucket
from tests.snapshots.bucket_suite import BODY, MIB, BucketSuite, refused_by_all
from tests.stores import Faulty, Store, faulty_store
from tests.stores.faulty import Fault, Request, answer, cut, hung, late, lost, reset
from tests.system.server import free_port

SHORT = Patience(connect_s=1.0, read_s=0.3, total_s=5.0, first_pause_s=0.01)
SHORTEST = Patience(connect_s=0.2, read_s=0.2, total_s=0.2, first_pause_s=0.01)
SLOW_DOWN = answer(503, "SlowDown")


@pytest.fixture
def faulty(moto: Store) -> Iterator[Faulty]:
    with faulty_store(moto) as faulty:
        yield faulty


Opened = Callable[..., S3Bucket]


@pytest.fixture
def opened() -> Iterator[Opened]:
    """Makes buckets that are closed afterwards."""
    buckets: list[S3Bucket] = []

    def make(store: Store, patience: Patience = SHORT, prefix: str = "", page_keys: int = 1000) -> S3Bucket:
        name = prefix or os.urandom(4).hex()
        buckets.append(S3Bucket(store.bucket, name, store.environment, patience=patience, page_keys=page_keys))
        return buckets[-1]

    yield make
    for bucket in buckets:
        bucket.close()


class TestMoto(BucketSuite):
    """The suite, with pages so small that lists have several."""

    @pytest.fixture
    def bucket(self, moto: Store, opened: Opened) -> Bucket:
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


@pytest.mark.parametrize("fault", [SLOW_DOWN, answer(500, "InternalError"), answer(429), answer(409, "OperationAborted"), reset])
def test_what_passes_is_tried_again(faulty: Faulty, opened: Opened, fault: Fault) -> None:
    """Twice in a row, for every kind of request; nobody notices but by the clock."""
    bucket = opened(faulty.store)
    faulty.next("PUT", fault, fault)
    bucket.replace("v1/a", BODY)
    faulty.next("GET", fault, fault)
    assert bucket.get("v1/a") == BODY
    faulty.next("GET", fault, fault)
    assert bucket.head("v1/a") is not None
    faulty.next("GET", fault, fault)
    assert [entry.key for entry in bucket.list("")] == ["v1/a"]
    faulty.next("DELETE", fault, fault)
    assert bucket.delete("v1/a")
    assert [request.method for request in faulty.seen] == ["PUT"] * 3 + ["GET"] * 9 + ["DELETE"] * 3 + ["GET"]


@pytest.mark.parametrize("fault", [lost, late])
def test_a_create_that_succeeded_without_an_answer(faulty: Faulty, opened: Opened, fault: Fault) -> None:
    """Its bytes are found there: created, with one request that writes."""
    bucket = opened(faulty.store)
    faulty.next("PUT", fault)
    assert bucket.create("v1/a", BODY)
    assert [request.method for request in faulty.seen] == ["PUT", "GET"]


@pytest.mark.parametrize("fault", [reset, hung, answer(500, "InternalError"), SLOW_DOWN, answer(409, "ConditionalRequestConflict")])
def test_a_create_that_did_not_succeed(faulty: Faulty, opened: Opened, fault: Fault) -> None:
    """Nothing is found there: tried again, under the same condition."""
    bucket = opened(faulty.store)
    faulty.next("PUT", fault)
    assert bucket.create("v1/a", BODY)
    assert [(request.method, request.headers.get("If-None-Match")) for request in faulty.seen] == [
        ("PUT", "*"),
        ("GET", None),
        ("PUT", "*"),
    ]
    assert bucket.get("v1/a") == BODY


@pytest.mark.parametrize("fault", [reset, hung, answer(500, "InternalError"), answer(409, "ConditionalRequestConflict")])
def test_a_create_without_an_answer_of_a_taken_name(faulty: Faulty, opened: Opened, fault: Fault) -> None:
    """Other bytes are found there: lost, and they stay."""
    bucket = opened(faulty.store)
    bucket.create("v1/a", BODY)
    faulty.next("PUT", fault)
    assert not bucket.create("v1/a", BODY[::-1])
    assert bucket.get("v1/a") == BODY


def test_a_create_whose_outcome_stays_unknown(faulty: Faulty, opened: Opened) -> None:
    """Unreachable, within the time; the object may be there."""
    bucket = opened(faulty.store, SHORTEST)
    faulty.next("PUT", lost)
    faulty.always("PUT", reset)
    faulty.always("GET", reset)
    with pytest.raises(Unreachable, match=r"does not answer .*key=.*/v1/a .*tries="):
        bucket.create("v1/a", BODY)
    faulty.always("GET", lambda request: request.reply(request.pass_on()))
    assert bucket.get("v1/a") == BODY


def test_a_look_that_fails_after_a_create_without_an_answer(faulty: Faulty, opened: Opened) -> None:
    """The create is tried again; the store says that the name is taken, by the same bytes."""
    bucket = opened(faulty.store)
    faulty.next("PUT", lost)
    faulty.next("GET", reset)
    assert bucket.create("v1/a", BODY)
    assert [request.method for request in faulty.seen] == ["PUT", "GET", "PUT", "GET"]


def test_a_name_that_is_taken_and_free_again(faulty: Faulty, opened: Opened) -> None:
    """Deleted between the answer and the look: tried again."""
    bucket = opened(faulty.store)
    faulty.next("PUT", answer(412, "PreconditionFailed"))
    assert bucket.create("v1/a", BODY)
    assert bucket.get("v1/a") == BODY


@pytest.mark.parametrize("fault", [SLOW_DOWN, hung])
def test_a_store_that_stays_away(faulty: Faulty, opened: Opened, fault: Fault) -> None:
    """Unreachable for every call, not before the time is over and not long after."""
    bucket = opened(faulty.store, SHORTEST)
    for method in ("GET", "PUT", "DELETE"):
        faulty.always(method, fault)
    calls: list[Callable[[], object]] = [
        lambda: bucket.get("v1/a"),
        lambda: bucket.head("v1/a"),
        lambda: bucket.create("v1/a", BODY),
        lambda: bucket.replace("v1/a", BODY),
        lambda: bucket.put_file("v1/a", Path(__file__), 0, 10),
        lambda: list(bucket.list("")),
        lambda: bucket.delete("v1/a"),
    ]
    for call in calls:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="tries="):
            call()
        assert 0.1 < time.monotonic() - started < 3


def test_nobody_listens(moto: Store, opened: Opened) -> None:
    """Unreachable, with the endpoint in the words."""
    url = f"http://127.0.0.1:{free_port()}"
    away = Store(url, moto.access_key, moto.secret_key, moto.bucket)
    with pytest.raises(Unreachable, match=url):
        opened(away, SHORTEST).get("v1/a")


def test_no_tls_there(moto: Store, opened: Opened) -> None:
    """An endpoint written with https that has none is a setting to correct."""
    wrong = Store(moto.endpoint.replace("http:", "https:"), moto.access_key, moto.secret_key, moto.bucket)
    with pytest.raises(Refused, match="check AWS_ENDPOINT_URL_S3"):
        opened(wrong).get("v1/a")


def test_close_ends_waiting(faulty: Faulty, opened: Opened) -> None:
    """A thread that waits for its next try does not hold up the end of the process."""
    bucket = opened(faulty.store, Patience(total_s=60, first_pause_s=60, longest_pause_s=60))
    asked = threading.Event()

    def refuse(request: Request) -> None:
        SLOW_DOWN(request)
        asked.set()

    faulty.next("GET", refuse)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            bucket.get("v1/a")
        except Unreachable as error:
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    assert asked.wait(10)
    bucket.close()
    thread.join(10)
    assert len(errors) == 1


def test_an_answer_that_is_cut(faulty: Faulty, opened: Opened) -> None:
    """Half an object is never taken for one."""
    bucket = opened(faulty.store)
    bucket.create("v1/a", BODY)
    faulty.next("GET", cut, cut)
    assert bucket.get("v1/a") == BODY
    faulty.always("GET", cut)
    with pytest.raises(Unreachable):
        opened(faulty.store, SHORTEST, bucket.url.rpartition("/")[2]).get("v1/a")


def test_a_store_that_trickles(faulty: Faulty, opened: Opened) -> None:
    """Given up although bytes keep coming; the next try is quick."""
    bucket = opened(faulty.store, Patience(read_s=5, total_s=0.3, first_pause_s=0.01))
    bucket.replace("v1/a", bytes(MIB))
    gone = threading.Event()

    def trickle(request: Request) -> None:
        found = request.pass_on()
        request.reply(found._replace(headers=[*found.headers, ("Content-Length", str(len(found.body)))], body=found.body[:10]))
        for _ in range(1000):
            request.send(b"x")
            if gone.wait(0.01):
                break
        request.hang_up()

    faulty.next("GET", trickle)
    try:
        started = time.monotonic()
        with pytest.raises(Unreachable):
            bucket.get("v1/a")
        assert 0.3 < time.monotonic() - started < 3
    finally:
        gone.set()
    assert bucket.get("v1/a") == bytes(MIB)


def test_deletes_that_lie(faulty: Faulty, opened: Opened) -> None:
    """Success without deleting is found out, each time, and by the probe."""
    bucket = opened(faulty.store)
    bucket.create("v1/a", BODY)
    faulty.always("DELETE", answer(204))
    assert not bucket.delete("v1/a")
    assert not bucket.delete("v1/a")
    assert bucket.delete("v1/b")
    findings = probe(bucket)
    assert findings.refusal() is None
    assert findings.warnings() == ["the store says that it deletes and does not, so nothing is ever pruned"]


def test_without_permission_to_delete(faulty: Faulty, opened: Opened) -> None:
    """Refused, with what the credentials need."""
    bucket = opened(faulty.store)
    bucket.create("v1/a", BODY)
    faulty.always("DELETE", answer(403, "AccessDenied"))
    with pytest.raises(Refused, match=r"AccessDenied.*s3:DeleteObject"):
        bucket.delete("v1/a")


REFUSALS = [
    (403, "InvalidAccessKeyId", "check AWS_ACCESS_KEY_ID"),
    (403, "SignatureDoesNotMatch", "check AWS_SECRET_ACCESS_KEY, and AWS_REGION"),
    (403, "RequestTimeTooSkewed", "the clock of this machine is wrong"),
    (403, "AccessDenied", "the credentials need s3:GetObject, s3:PutObject, s3:ListBucket"),
    (400, "ExpiredToken", "check AWS_SESSION_TOKEN, or renew the credentials"),
    (400, "AuthorizationHeaderMalformed", "check AWS_REGION"),
    (501, "NotImplemented", "the store cannot do what snapshots need"),
    (411, "MissingContentLength", "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required"),
    (400, "SomethingNew", "check the URL of the bucket and the AWS_"),
]


def test_refusals_say_which_setting(faulty: Faulty, opened: Opened) -> None:
    """At once, without a second try."""
    bucket = opened(faulty.store)
    for status, code, hint in REFUSALS:
        faulty.next("PUT", answer(status, code))
        with pytest.raises(Refused, match=f"{code}.*{hint}"):
            bucket.create("v1/a", BODY)
    assert len(faulty.seen) == len(REFUSALS)


def test_without_credentials(moto: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Said so at the first request, with the names to set."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    bucket = open_bucket(moto.url, {"AWS_ENDPOINT_URL_S3": moto.endpoint})
    refused_by_all(bucket, told="no credentials .*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give")
    bucket.close()


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
        list(bucket.list(""))
    assert len({request.peer for request in faulty.seen}) == 1


def _asked(store: Store, operation: str, **parameters: str) -> dict[str, object]:
    client = store.client()
    try:
        return dict(getattr(client, operation)(**parameters))
    finally:
        client.close()
