"""What an S3 store answers with → the error that says what to do next."""

from __future__ import annotations

from snapshots.errors import Missing, Refused, SnapshotError, Unreachable


class Taken(SnapshotError):
    """Create-if-absent: the name is taken. Does not leave `s3`."""


class BehindEnd(SnapshotError):
    """A range that begins behind the last byte. Does not leave `s3`."""


class UploadGone(SnapshotError):
    """The store knows no such multipart upload (any more). Does not leave `s3`."""


KINDS: dict[str, type[SnapshotError]] = {
    "PreconditionFailed": Taken,
    "412": Taken,
    "InvalidRange": BehindEnd,
    "416": BehindEnd,
    "NoSuchUpload": UploadGone,
    "NoSuchKey": Missing,
    "404": Missing,
}
AGAIN = {
    "ConditionalRequestConflict",
    "OperationAborted",
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "BadDigest",  # these two: the bytes changed on the way
    "XAmzContentSHA256Mismatch",
    "IncompleteBody",
}
KEYS = "check AWS_ACCESS_KEY_ID"
SECRET = "check AWS_SECRET_ACCESS_KEY, and AWS_REGION"  # noqa: S105 - the name of a variable
TOKEN = "check AWS_SESSION_TOKEN, or renew the credentials"  # noqa: S105 - the name of a variable
REGION = "check AWS_REGION and AWS_ENDPOINT_URL_S3"
POLICY = (
    "the credentials need s3:GetObject, s3:PutObject, s3:ListBucket, s3:AbortMultipartUpload; "
    "to prune s3:DeleteObject and s3:ListBucketMultipartUploads"
)
CLOCK = "the clock of this machine is wrong"
HINTS = {
    "NoSuchBucket": "check the name in the URL, and AWS_ENDPOINT_URL_S3",
    "InvalidBucketName": "check the name in the URL",
    "InvalidAccessKeyId": KEYS,
    "SignatureDoesNotMatch": SECRET,
    "ExpiredToken": TOKEN,
    "InvalidToken": TOKEN,
    "RequestTimeTooSkewed": CLOCK,
    "RequestExpired": CLOCK,
    "PermanentRedirect": REGION,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "AccessDenied": POLICY,
    "403": POLICY,
    "NotImplemented": "the store cannot do what snapshots need",
    "MissingContentLength": "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
}
PASSING_STATUS = {408, 429}
NOT_IMPLEMENTED = 501
SERVER_ERROR = 500


def meaning(code: str, status: int, message: str, facts: str) -> SnapshotError:
    """The error for an answer that is no success. `code` is S3's; stores that answer without a body give the status as the code."""
    if code in KINDS:
        return KINDS[code](f"{code} {facts}")
    told = f"{code} {message!r} status={status} {facts}"
    if code in AGAIN or status in PASSING_STATUS or (status >= SERVER_ERROR and status != NOT_IMPLEMENTED):
        return Unreachable(f"the bucket cannot now: {told}")
    return Refused(f"the bucket refuses: {told}: {HINTS.get(code, 'check the URL of the bucket and the AWS_… variables')}")
