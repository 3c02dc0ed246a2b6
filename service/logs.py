"""Log lines: JSON for machines, one readable line on a terminal, each with the id of the request it belongs to.

No line holds a body, a key or a secret: nothing of a request is logged but method, path template, status, time and request id.
The level is that of our own lines and may change while the process runs. Libraries speak from warnings up: what some of them say below
shows requests and how they are signed.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that the running task answers."""

LEVELS = ("debug", "info", "warning", "error", "critical")

logger = logging.getLogger("tidepool")


def set_up(level: str) -> None:
    """Logging of the process to stderr. Called once, by the command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HumanFormatter() if sys.stderr.isatty() else _JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    set_level(level)


def set_level(level: str) -> None:
    """One of LEVELS, from the next line on."""
    logger.setLevel(level.upper())


def level() -> str:
    return logging.getLevelName(logger.getEffectiveLevel()).lower()


def event(level: int, message: str, **members: object) -> None:
    """One line with members of its own."""
    logger.log(level, message, extra={"members": members})


class RequestLog:
    """The line of each request, written past `logging`, which would cost as much as the answer. Lives as long as the application."""

    def __init__(self) -> None:
        self._json = not sys.stderr.isatty()
        self._second = -1
        self._prefix = ""

    def __call__(self, request_id: str, method: str, route: str, status: int, seconds: float) -> None:
        """All arguments are safe to write: the route is a template, the id was checked."""
        if not logger.isEnabledFor(logging.INFO):
            return
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            moment = datetime.fromtimestamp(self._second, UTC)
            self._prefix = f"{moment:%Y-%m-%dT%H:%M:%S}" if self._json else f"{moment.astimezone():%H:%M:%S}"
        if self._json:
            moment_text = f"{self._prefix}.{int(now * 1000) % 1000:03}+00:00"
            line = (
                f'{{"time":"{moment_text}","level":"info","message":"request","request_id":"{request_id}",'
                f'"method":"{method}","route":"{route}","status":{status},"ms":{seconds * 1000:.3f}}}\n'
            )
        else:
            line = f"{self._prefix} info    request {method} {route} {status} {seconds * 1000:.1f} ms request_id={request_id}\n"
        os.write(sys.stderr.fileno(), line.encode())


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line.update(getattr(record, "members", {}))
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class _HumanFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        members = "".join(f" {name}={value}" for name, value in getattr(record, "members", {}).items())
        request_id = f" request_id={REQUEST_ID.get()}" if REQUEST_ID.get() else ""
        error = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{moment} {record.levelname.lower():7} {record.getMessage()}{members}{request_id}{error}"
