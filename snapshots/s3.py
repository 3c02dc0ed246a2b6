"""A bucket in S3 or in a store that speaks its protocol: `s3://bucket/prefix`.

The one conditional request is `PutObject` with `If-None-Match: *`. What became of a create without an answer is looked up: its bytes are
compared with what is there.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from snapshots.bucket import KEY, Entry
from snapshots.errors import Missing, Refused, SnapshotError, Unreachable
from snapshots.patience import Patience
from snapshots.s3_client import BLOCK_BYTES, Client
from snapshots.s3_errors import BehindEnd, Taken, UploadGone
from snapshots.s3_settings import encryption_parameters
from snapshots.s3_upload import Upload
from snapshots.section import Section, open_section

SINGLE_BYTES = 64 * 1024 * 1024
FIRST_S = 10.0
"""So long is waited for the first answer: a start must not stand still for minutes because nobody is there."""

Answer = TypeVar("Answer")


class S3Bucket:
    """Any thread may call. Making one sends nothing."""

    def __init__(
        self,
        name: str,
        prefix: str,
        environment: Mapping[str, str],
        *,
        encryption: str = "",
        patience: Patience | None = None,
        page_keys: int = 1000,
    ) -> None:
        self.url = f"s3://{name}/{prefix}".rstrip("/")
        self._name = name
        self._root = f"{prefix}/" if prefix else ""
        self._stored_with = encryption_parameters(encryption)
        self._patience = patience or Patience()
        self._wait_s = FIRST_S
        self._page_keys = page_keys
        self._closed = threading.Event()
        self._client = Client(environment, self._patience)

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        if length == 0:
            return self._ask(lambda: self._get_nothing(key))
        return self._ask(lambda: self._get(key, start, length))

    def read(self, key: str, start: int, length: int, take: Callable[[bytes], object]) -> int:
        if length == 0:
            return len(self.get(key, start, length))
        reading = _Reading(start, start + length, take)
        while not self._ask(lambda: self._read(key, reading)):
            pass
        return reading.at - start

    def head(self, key: str) -> Entry | None:
        return self._ask(lambda: self._head(key))

    def create(self, key: str, body: bytes) -> bool:
        return self._ask(lambda: self._create(key, body))

    def replace(self, key: str, body: bytes) -> None:
        self._ask(lambda: self._put(key, body))

    def put_file(self, key: str, path: Path, start: int, length: int) -> None:
        with open_section(path, start, length) as section:
            if length > SINGLE_BYTES:
                Upload(self._client, self._ask, self._place(key), self._stored_with).send(section, length)
            else:
                self._ask(lambda: self._put(key, section(0, length)))

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        where = {"Bucket": self._name, "Prefix": self._root + prefix}
        more: dict[str, str] | None = {"StartAfter": self._root + after} if after else {}
        while more is not None:
            entries, more = self._ask(functools.partial(self._page, where | more))
            for entry in entries:
                if entry.key <= after:
                    raise Refused(f"the store does not list in the order of names bucket={self.url} key={entry.key} after={after}")
                after = entry.key
                yield entry

    def delete(self, key: str) -> bool:
        self._ask(lambda: self._delete(key))
        return self.head(key) is None

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        where = {"Bucket": self._name, "Prefix": self._root + prefix}
        old: builtins.list[dict[str, str]] = []
        more: dict[str, str] | None = {}
        while more is not None:
            page = self._ask(functools.partial(self._client.send, "list_multipart_uploads", **where, **more, MaxUploads=self._page_keys))
            old += [
                {"Bucket": self._name, "Key": each["Key"], "UploadId": each["UploadId"]}
                for each in page.get("Uploads", [])
                if each["Initiated"].timestamp() < before_s and each["Key"].startswith(where["Prefix"])
            ]
            next_page = _next_uploads(page)
            if next_page is not None and next_page == more:
                raise Refused(f"the store lists the same uploads again and again bucket={self.url}")
            more = next_page
        for each in old:
            self._ask(functools.partial(self._abort_upload, each))
        return len(old)

    def _abort_upload(self, upload: dict[str, str]) -> None:
        with contextlib.suppress(UploadGone, Missing):
            self._client.send("abort_multipart_upload", **upload)

    def close(self) -> None:
        self._closed.set()
        self._client.close()

    def _ask(self, call: Callable[[], Answer]) -> Answer:
        """Patiently while the bucket is known to answer; briefly until it first does; once only after it was waited for in vain."""
        patience = msgspec.structs.replace(self._patience, total_s=min(self._patience.total_s, self._wait_s))
        try:
            answer = patience.ask(call, self._closed)
        except Unreachable:
            self._wait_s = 0.0
            raise
        except SnapshotError:
            self._wait_s = self._patience.total_s
            raise
        self._wait_s = self._patience.total_s
        return answer

    def _place(self, key: str) -> dict[str, str]:
        if not KEY.fullmatch(key):
            raise Refused(f"not a key of a bucket key={key!r}")
        return {"Bucket": self._name, "Key": self._root + key}

    def _get(self, key: str, start: int, length: int | None) -> bytes:
        last = "" if length is None else str(start + length - 1)
        wanted = {"Range": f"bytes={start}-{last}"} if start or last else {}
        try:
            body = self._client.read(**self._place(key), **wanted)
        except BehindEnd:
            return b""
        if length is not None and len(body) > length:
            raise Refused(f"the store ignores ranges bucket={self.url} key={key}")
        return body

    def _read(self, key: str, reading: _Reading) -> bool:
        """From where the last try broke off. False when this one broke off too, but brought a block: a slow link and a slow disk get there,
        with fresh patience for each block at the worst."""
        before = reading.at
        try:
            self._read_on(key, reading)
        except Unreachable:
            if reading.at - before < BLOCK_BYTES or self._closed.wait(self._patience.pause_s(1)):
                raise
            return False
        return True

    def _read_on(self, key: str, reading: _Reading) -> None:
        if reading.at < reading.end:
            wanted = f"bytes={reading.at}-{reading.end - 1}"
            with contextlib.suppress(BehindEnd), contextlib.closing(self._client.blocks(**self._place(key), Range=wanted)) as blocks:
                for block in blocks:
                    if reading.at + len(block) > reading.end:
                        raise Refused(f"the store ignores ranges bucket={self.url} key={key}")
                    reading.hand_over(block)

    def _get_nothing(self, key: str) -> bytes:
        """Ranges of S3 have at least one byte."""
        if self._head(key) is None:
            raise Missing(f"no such object bucket={self.url} key={key}")
        return b""

    def _head(self, key: str) -> Entry | None:
        """By reading a byte: the answer to HEAD has no body that would tell a missing bucket from a missing object."""
        place = self._place(key)
        try:
            answer = self._client.first_byte(**place)
            size = int(answer["ContentRange"].rpartition("/")[2]) if "ContentRange" in answer else answer["ContentLength"]
        except Missing:
            return None
        except BehindEnd:
            answer, size = self._client.send("head_object", **place), 0
        return Entry(key, size, answer["LastModified"].timestamp())

    def _put(self, key: str, body: bytes | Section, **condition: str) -> None:
        self._client.send("put_object", **self._place(key), Body=body, **self._stored_with, **condition)

    def _create(self, key: str, body: bytes) -> bool:
        """One try, and a look at what became of it."""
        try:
            self._put(key, body, IfNoneMatch="*")
            return True
        except Taken:
            doubt = Unreachable(f"the name is taken and nothing is there bucket={self.url} key={key}")
        except Unreachable as error:
            doubt = error
        try:
            found = self._get(key, 0, len(body) + 1)
            if found == body:
                return True
            if self._get(key, 0, len(body) + 1) != found:  # whoever believes one damaged answer ends for nothing
                raise Unreachable(f"two readings of one object differ bucket={self.url} key={key}")
        except Missing:
            raise doubt from None
        return False

    def _page(self, where: dict[str, str]) -> tuple[builtins.list[Entry], dict[str, str] | None]:
        answer = self._client.send("list_objects_v2", **where, MaxKeys=self._page_keys)
        found = answer.get("Contents", [])
        entries = [Entry(each["Key"].removeprefix(self._root), each["Size"], each["LastModified"].timestamp()) for each in found]
        return entries, {"ContinuationToken": answer["NextContinuationToken"]} if answer.get("IsTruncated") else None

    def _delete(self, key: str) -> None:
        with contextlib.suppress(Missing):
            self._client.send("delete_object", **self._place(key))


class _Reading:
    """A range on its way to who asked for it. Lives for one call, over several tries."""

    def __init__(self, start: int, end: int, take: Callable[[bytes], object]) -> None:
        self.at, self.end = start, end
        self._take = take

    def hand_over(self, block: bytes) -> None:
        self._take(block)
        self.at += len(block)


def _next_uploads(page: Mapping[str, str]) -> dict[str, str] | None:
    """Where the next page begins; None behind the last."""
    if not page.get("IsTruncated"):
        return None
    return {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
