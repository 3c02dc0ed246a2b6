"""What a test needs to know of a store that runs."""

from __future__ import annotations

import secrets
from typing import Any

import boto3  # type: ignore[import-untyped]  # has no types
import msgspec
from botocore.config import Config  # type: ignore[import-untyped]  # has no types

REGION = "us-east-1"


class Store(msgspec.Struct, frozen=True):
    """A bucket in a store that somebody else started and ends."""

    endpoint: str
    access_key: str
    secret_key: str
    bucket: str

    @property
    def url(self) -> str:
        """Another prefix each time, so that tests do not see each other's objects."""
        return f"s3://{self.bucket}/{secrets.token_hex(4)}"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
        }

    def client(self) -> Any:
        """A plain client of boto3, for what a test looks up or prepares behind our back. Close it."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=REGION,
            config=Config(s3={"addressing_style": "path"}),
        )


def with_bucket(endpoint: str, access_key: str, secret_key: str) -> Store:
    """The store with a new bucket in it."""
    store = Store(endpoint, access_key, secret_key, f"tide-{secrets.token_hex(4)}")
    client = store.client()
    try:
        client.create_bucket(Bucket=store.bucket)
    finally:
        client.close()
    return store
