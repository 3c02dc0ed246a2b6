"""Multipart upload of a part of a file. Nothing is visible before the last request; a failed upload is taken back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from snapshots.errors import SnapshotError, Unreachable
from snapshots.s3_client import Client
from snapshots.s3_errors import UploadGone
from snapshots.section import Section

PART_BYTES = 16 * 1024 * 1024
PARTS_AT_ONCE = 4

Answer = TypeVar("Answer")
Sections = Callable[[int, int], Section]


class Upload:
    """One upload. `ask` repeats a request while the bucket is unreachable, as long as its patience lasts."""

    def __init__(self, client: Client, ask: Callable[[Callable[[], Any]], Any], place: dict[str, str], stored_with: dict[str, str]) -> None:
        self._client = client
        self._ask = ask
        self._place = place
        self._upload = place | {"UploadId": ask(lambda: client.send("create_multipart_upload", **place, **stored_with))["UploadId"]}

    def send(self, section: Sections, length: int) -> None:
        try:
            parts = self._send_parts(section, length)
            self._ask(lambda: self._finish(parts, length))
        except UploadGone as error:
            raise Unreachable(f"the store lost an upload {error}") from error
        except BaseException:
            # This error is told. What the store keeps of the upload is not visible, and its own rules remove it.
            with contextlib.suppress(SnapshotError):
                self._client.send("abort_multipart_upload", **self._upload)
            raise

    def _send_parts(self, section: Sections, length: int) -> list[dict[str, Any]]:
        with ThreadPoolExecutor(PARTS_AT_ONCE, "tidepool-upload") as threads:
            sent = [threads.submit(self._send_part, section, at, min(PART_BYTES, length - at)) for at in range(0, length, PART_BYTES)]
            try:
                return [each.result() for each in sent]
            finally:
                threads.shutdown(cancel_futures=True)

    def _send_part(self, section: Sections, at: int, count: int) -> dict[str, Any]:
        number = at // PART_BYTES + 1
        answer = self._ask(lambda: self._client.send("upload_part", **self._upload, PartNumber=number, Body=section(at, count)))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _finish(self, parts: list[dict[str, Any]], length: int) -> None:
        """An earlier try may have succeeded without an answer: then the upload is gone and the object is there."""
        try:
            self._client.send("complete_multipart_upload", **self._upload, MultipartUpload={"Parts": parts})
        except UploadGone:
            if self._client.send("head_object", **self._place)["ContentLength"] != length:
                raise
