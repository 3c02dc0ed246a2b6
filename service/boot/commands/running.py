"""The service that runs, asked over HTTP by the command line of the same machine or another."""

from __future__ import annotations

import http.client
from urllib.parse import SplitResult, urlsplit

import msgspec

from service.api.errors import DAMAGED, ERROR_HEADER, FENCED
from service.settings import Settings
from snapshots.errors import Corrupt, Fenced, Missing, Refused, SnapshotError, Unreachable

PATIENCE_S = 3600.0
"""The answer comes when the work is done: a checkpoint of a large index takes minutes."""
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where it listens, and where it is asked then
KINDS: dict[int, type[SnapshotError]] = {401: Refused, 403: Refused, 404: Missing, 409: Unreachable, 503: Unreachable}
NAMED: dict[str | None, type[SnapshotError]] = {DAMAGED: Corrupt, FENCED: Fenced}
"""What an answer means: a header goes before the status. Everything else is an error without a meaning of its own."""


class _Detail(msgspec.Struct):
    detail: str = ""


def address(settings: Settings, url: str | None) -> str:
    """Where the service is asked: what was given, or where the settings let it listen."""
    if url:
        return url.rstrip("/")
    host = EVERYWHERE.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def ask(settings: Settings, url: str, path: str) -> bytes:
    """Sends a POST with the key of the settings. Raises by what the answer means."""
    parts = _parts(url)
    secure = parts.scheme == "https"
    connection = (http.client.HTTPSConnection if secure else http.client.HTTPConnection)(
        parts.hostname or "", parts.port, timeout=PATIENCE_S
    )
    headers = {"content-length": "0"} if settings.api_secret is None else {"content-length": "0", "x-api-key": settings.api_secret}
    try:
        connection.request("POST", parts.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"the service does not answer at {url}: {error}; --url says where it is") from error
    finally:
        connection.close()
    if answer.status >= 400:
        kind = NAMED.get(answer.getheader(ERROR_HEADER)) or KINDS.get(answer.status, SnapshotError)
        raise _meaning(url + path, answer.status, body, kind)
    return body


def _parts(url: str) -> SplitResult:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        usable = False
    if not usable:
        raise Refused(f"not the address of a service url={url!r}: write http://host:port")
    return parts


def _meaning(asked: str, status: int, body: bytes, kind: type[SnapshotError]) -> SnapshotError:
    try:
        detail = msgspec.json.decode(body, type=_Detail).detail
    except (msgspec.MsgspecError, UnicodeDecodeError):
        detail = "no further words"
    advice = "; ISCC_SEARCH_API_SECRET holds the key of the service" if status in (401, 403) else ""
    return kind(f"{asked} answers {status}: {detail}{advice}")
