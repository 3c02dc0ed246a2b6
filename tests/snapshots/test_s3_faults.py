"""What a bucket in S3 does when requests fail, hang, get lost, lie or are refused. The store behind is moto."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from snapshots.addresses import open_bucket
from snapshots.errors import NoRoom, Refused, Unreachable
from snapshots.patience import Patience
from snapshots.probe import probe
from tests.snapshots.bucket_suite import BODY, MIB, refused_by_all
from tests.snapshots.impatient import SHORTEST, SLOW_DOWN, Opened
from tests.stores import Faulty, Store
from tests.stores.faulty import Fault, Request, answer, cut, hung, late, lost, reset
from tests.system.server import free_port

pytestmark = pytest.mark.timing

KEY_NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


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
    """Unreachable for every call, soon after the time is over."""
    bucket = opened(faulty.store, SHORTEST)
    for method in ("GET", "PUT", "DELETE"):
        faulty.always(method, fault)
    calls: list[Callable[[], object]] = [
        lambda: bucket.get("v1/a"),
        lambda: bucket.read("v1/a", 0, 1, bytes),
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
        assert time.monotonic() - started < 10


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


def test_reading_goes_on_behind_what_was_handed_over(faulty: Faulty, opened: Opened) -> None:
    """Of an answer that is cut only the rest is asked for; each byte comes once. Nothing is asked for when all came."""
    body = os.urandom(2 * MIB)
    bucket = opened(faulty.store)
    bucket.replace("v1/a", body)
    faulty.seen.clear()
    faulty.next("GET", cut, reset, cut)
    taken: list[bytes] = []
    assert bucket.read("v1/a", 10, MIB, taken.append) == MIB
    assert b"".join(taken) == body[10 : 10 + MIB]
    ends = [start + 10 for start in (0, MIB // 2, MIB // 2, MIB // 2 + MIB // 4)]
    assert [request.headers["Range"] for request in faulty.seen] == [f"bytes={start}-{MIB + 9}" for start in ends]


def test_who_takes_may_need_long(faulty: Faulty, opened: Opened) -> None:
    """A slow disk is not a slow store: an answer that broke off meanwhile is asked for again, however late it is."""
    bucket = opened(faulty.store, Patience(read_s=5, total_s=0.3, first_pause_s=0.01))
    bucket.replace("v1/a", bytes(MIB))
    faulty.next("GET", cut)
    taken: list[int] = []

    def take(block: bytes) -> None:
        if not taken:
            time.sleep(0.5)
        taken.append(len(block))

    assert bucket.read("v1/a", 0, MIB, take) == MIB == sum(taken)
    assert [request.method for request in faulty.seen] == ["PUT", "GET", "GET"]


def test_an_error_of_who_takes(faulty: Faulty, opened: Opened) -> None:
    """Comes out at once: the store is not asked again. The connection is not used any more, since the rest of the answer is on it."""
    bucket = opened(faulty.store)
    bucket.replace("v1/a", bytes(MIB))

    def take(_: bytes) -> None:
        raise NoRoom("full")

    with pytest.raises(NoRoom):
        bucket.read("v1/a", 0, MIB, take)
    assert bucket.get("v1/a") == bytes(MIB)
    assert [request.method for request in faulty.seen] == ["PUT", "GET", "GET"]


def test_a_store_that_ignores_ranges(faulty: Faulty, opened: Opened) -> None:
    """Refused before a byte too many is handed over."""
    bucket = opened(faulty.store)
    bucket.replace("v1/a", BODY)

    def whole(request: Request) -> None:
        request.headers.pop("Range")
        request.reply(request.pass_on())

    faulty.always("GET", whole)
    for call in (lambda: bucket.get("v1/a", 0, 10), lambda: bucket.read("v1/a", 0, 10, bytes)):
        with pytest.raises(Refused, match="ignores ranges"):
            call()


@pytest.mark.parametrize("way", ["get", "read"])
def test_a_store_that_trickles(faulty: Faulty, opened: Opened, way: str) -> None:
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
            bucket.get("v1/a") if way == "get" else bucket.read("v1/a", 0, MIB, bytes)
        assert 0.3 < time.monotonic() - started < 3
    finally:
        gone.set()
    assert bucket.get("v1/a") == bytes(MIB)


def test_a_slow_link(faulty: Faulty, opened: Opened) -> None:
    """A range comes although each try is over long before its end, and meanwhile the store counts as one that answers."""
    bucket = opened(faulty.store, Patience(read_s=5, total_s=1.0, first_pause_s=0.01))
    body = os.urandom(MIB)
    bucket.replace("v1/a", body)
    gone = threading.Event()

    def trickle(request: Request) -> None:
        found = request.pass_on()
        ahead = 3 * MIB // 8
        request.reply(found._replace(headers=[*found.headers, ("Content-Length", str(len(found.body)))], body=found.body[:ahead]))
        for at in range(ahead, len(found.body)):
            request.send(found.body[at : at + 1])
            if gone.wait(0.01):
                break
        request.hang_up()

    taken: list[bytes] = []

    def take(block: bytes) -> None:
        taken.append(block)
        if sum(map(len, taken)) == MIB // 2:  # of the second try
            faulty.next("GET", reset, reset)
            assert bucket.head("v1/a") is not None

    faulty.always("GET", trickle)
    try:
        assert bucket.read("v1/a", 0, MIB, take) == MIB
    finally:
        gone.set()
    assert b"".join(taken) == body


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


def test_without_credentials(moto: Store, nobody: None) -> None:
    """Said so at the first request, with the names to set."""
    bucket = open_bucket(moto.url, {"AWS_ENDPOINT_URL_S3": moto.endpoint})
    refused_by_all(bucket, told="no credentials .*set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give")
    bucket.close()


@pytest.mark.parametrize(("present", "absent"), [KEY_NAMES, KEY_NAMES[::-1]])
def test_half_of_the_credentials(moto: Store, present: str, absent: str) -> None:
    """Refused when the bucket is opened, with the name that lacks; nothing else is tried in its stead."""
    with pytest.raises(Refused, match=f"{present} is set and {absent} is not"):
        open_bucket(moto.url, {present: "key", "AWS_ENDPOINT_URL_S3": moto.endpoint})
