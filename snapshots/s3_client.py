"""Requests to an S3 store, through boto3; the only module that knows it. Each request is sent once: tries are counted by who asks.

Errors of boto3 and of the transport below it end here, as those of `snapshots.errors` and of `s3_errors`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator, Mapping
from typing import Any

import boto3  # type: ignore[import-untyped]  # has no types
from botocore import exceptions  # type: ignore[import-untyped]  # has no types
from botocore.config import Config  # type: ignore[import-untyped]  # has no types
from botocore.httpsession import URLLib3SSLError  # type: ignore[import-untyped]  # has no types; it lets these through within a body
from botocore.parsers import ResponseParserError  # type: ignore[import-untyped]  # has no types

from snapshots.errors import Refused, SnapshotError, Unreachable
from snapshots.patience import Patience
from snapshots.s3_errors import meaning
from snapshots.s3_settings import Manner, endpoint_of, keys_of, manner_of, region_of

BLOCK_BYTES = 128 << 10
"""What is read at a time: it is still in the cache of the processor when it is used, and its memory is used again."""
CONNECTIONS = 48  # 32 threads that read, and those that ship and sweep besides
ANY_REGION = "us-east-1"  # what stores without regions expect in a signature
PASSING = (
    exceptions.HTTPClientError,
    exceptions.ConnectionError,
    exceptions.IncompleteReadError,
    exceptions.ChecksumError,
    exceptions.FlexibleChecksumError,
    exceptions.CredentialRetrievalError,
    exceptions.MetadataRetrievalError,
    ResponseParserError,
    URLLib3SSLError,
)
UNTRUSTED = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER")  # the second: no TLS there at all
CREDENTIALS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or give the task or machine a role"


class Client:
    """Any thread may call. Making one sends nothing; the first request looks for credentials."""

    def __init__(self, environment: Mapping[str, str], patience: Patience) -> None:
        self._patience = patience
        self._facts = "endpoint=unknown"
        with self._translated():
            self._client = _connect(environment, patience)
        self._facts = f"endpoint={self._client.meta.endpoint_url}"

    def send(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """The parsed answer."""
        with self._translated(**{name.lower(): parameters[name] for name in ("Bucket", "Key") if name in parameters}):
            answer: dict[str, Any] = getattr(self._client, operation)(**parameters)
        return answer

    def read(self, **parameters: Any) -> bytes:
        """The body of an object."""
        answer = self.send("get_object", **parameters)
        with self._translated(key=parameters["Key"]), _bounded(answer["Body"], self._patience.total_s):
            body: bytes = answer["Body"].read()
        return body

    def blocks(self, **parameters: Any) -> Generator[bytes, None, None]:
        """The body of an object as it comes. Close it: the rest of an answer that nobody reads keeps its connection."""
        answer = self.send("get_object", **parameters)
        with self._translated(key=parameters["Key"]), _bounded(answer["Body"], self._patience.total_s):
            while block := answer["Body"].read(BLOCK_BYTES):
                yield block

    def first_byte(self, **parameters: Any) -> dict[str, Any]:
        """The parsed answer to a request for the first byte of an object."""
        answer = self.send("get_object", **parameters, Range="bytes=0-0")
        with self._translated(key=parameters["Key"]):
            answer["Body"].read(1)  # read to its end, so that the connection can be used again
            answer["Body"].close()
        return answer

    def close(self) -> None:
        self._client.close()

    @contextlib.contextmanager
    def _translated(self, **facts: str) -> Iterator[None]:
        try:
            yield
        except exceptions.ClientError as error:
            answer = error.response.get("Error", {})
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise meaning(answer.get("Code", ""), status, answer.get("Message", ""), self._tell(facts)) from error
        except (*PASSING, exceptions.BotoCoreError, ValueError) as error:
            raise _transport_meaning(error, self._tell(facts)) from error

    def _tell(self, facts: dict[str, str]) -> str:
        return " ".join([*(f"{name}={value}" for name, value in facts.items()), self._facts])


@contextlib.contextmanager
def _bounded(body: Any, seconds: float) -> Iterator[None]:
    """Time to read a body. A store that trickles never times out by itself: there is always a next byte."""
    with body as stream:
        end = threading.Timer(seconds, _shut, [stream])
        end.daemon = True
        end.start()
        try:
            yield
        finally:
            end.cancel()


def _shut(stream: Any) -> None:
    """Whoever reads gets an error. When it has just come to its end, there is nothing to shut."""
    with contextlib.suppress(ValueError, RuntimeError):
        stream.shutdown()


def _transport_meaning(error: Exception, facts: str) -> SnapshotError:
    """For requests that got no answer, or were not sent."""
    if isinstance(error, exceptions.SSLError) and any(reason in str(error) for reason in UNTRUSTED):
        return Refused(f"the endpoint cannot be trusted error={error} {facts}: check AWS_ENDPOINT_URL_S3 and AWS_CA_BUNDLE")
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound)):
        return Refused(f"no credentials error={error} {facts}: {CREDENTIALS}")
    if isinstance(error, PASSING):
        return Unreachable(f"the bucket does not answer error={error} {facts}")
    return Refused(f"the bucket cannot be asked error={error} {facts}: check the URL of the bucket and the AWS_… variables")


def _connect(environment: Mapping[str, str], patience: Patience) -> Any:
    """Keys that the environment names are handed over; a profile only without them, as everywhere in AWS. The rest boto3 finds."""
    keys = keys_of(environment)
    profile = None if keys else environment.get("AWS_PROFILE") or None
    session = boto3.session.Session(**keys, region_name=region_of(environment), profile_name=profile)
    endpoint = endpoint_of(environment)
    url = endpoint or session.client("s3").meta.endpoint_url  # it may stand in the profile
    manner = manner_of(url, environment)
    region = session.region_name or (None if manner.addressing == "auto" else ANY_REGION)
    client = session.client("s3", endpoint_url=endpoint, region_name=region, config=_config(manner, patience))
    if manner.headers:
        client.meta.events.register("before-call.s3", lambda params, **_: params["headers"].update(manner.headers))
    return client


def _config(manner: Manner, patience: Patience) -> Config:
    return Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.read_s,
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        retries={"mode": "standard", "total_max_attempts": 1},
        s3={"addressing_style": manner.addressing},
        request_checksum_calculation=manner.request_checksums,
        response_checksum_validation=manner.response_checksums,
    )
