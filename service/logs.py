"""Log lines: JSON for machines, one readable line on a terminal, each with the id of the request it belongs to.

No line holds a body, a key or a secret: nothing of a request is logged but method, path template, status, time and request id.
"""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime

import msgspec

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that the running task answers."""

logger = logging.getLogger("tidepool")


def set_up(level: str) -> None:
    """Logging of the process to stderr. Called once, by the command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HumanFormatter() if sys.stderr.isatty() else _JsonFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for chatty in ("_granian", "granian"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def event(level: int, message: str, **members: object) -> None:
    """One line with members of its own."""
    logger.log(level, message, extra={"members": members})


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
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        members = "".join(f" {name}={value}" for name, value in getattr(record, "members", {}).items())
        request_id = f" request_id={REQUEST_ID.get()}" if REQUEST_ID.get() else ""
        error = "\n" + self.formatException(record.exc_info) if record.exc_info else ""
        return f"{time} {record.levelname.lower():7} {record.getMessage()}{members}{request_id}{error}"
