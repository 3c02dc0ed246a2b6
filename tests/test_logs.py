"""Log lines: JSON for machines, readable on a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

from tests.project import ROOT

SCRIPT = """
import logging
from service import logs
logs.set_up("info")
logs.event(logging.INFO, "sealed", segment="a", rows=3)
logs.REQUEST_ID.set("id-1")
try:
    1 / 0
except ZeroDivisionError as error:
    logs.logger.error("unexpected error", exc_info=error)
logs.logger.debug("not asked for")
request_log = logs.RequestLog()
request_log("id-2", "GET", "/indexes/{name}", 200, 0.00125)
logging.getLogger("botocore").info("of a library")
logs.set_level("warning")
assert logs.level() == "warning"
request_log("id-3", "GET", "/indexes/{name}", 200, 0.00125)
logs.event(logging.INFO, "sealed")
"""
COMMAND = [sys.executable, "-c", SCRIPT]


def test_lines_are_json_when_nobody_reads_along() -> None:
    """One object a line, with time, level, message, request id and members; nothing below the level."""
    done = subprocess.run(COMMAND, capture_output=True, text=True, cwd=ROOT, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    times = [line.pop("time") for line in lines]
    assert all(time.endswith("+00:00") and len(time) == 29 for time in times)
    assert lines[0] == {"level": "info", "message": "sealed", "segment": "a", "rows": 3}
    assert lines[1].pop("error").splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert lines[1] == {"level": "error", "message": "unexpected error", "request_id": "id-1"}
    assert lines[2] == {
        "level": "info",
        "message": "request",
        "request_id": "id-2",
        "method": "GET",
        "route": "/indexes/{name}",
        "status": 200,
        "ms": 1.25,
    }
    assert len(lines) == 3


def test_lines_are_readable_on_a_terminal() -> None:
    """Time, level, message and members, as a person reads them."""
    master, slave = pty.openpty()
    subprocess.run(COMMAND, stderr=slave, cwd=ROOT, check=True)
    os.close(slave)
    text = os.read(master, 65536).decode().replace("\r\n", "\n")
    os.close(master)
    lines = text.splitlines()
    assert lines[0].endswith(" info    sealed segment=a rows=3")
    assert lines[1].endswith(" error   unexpected error request_id=id-1")
    assert lines[-1].endswith(" info    request GET /indexes/{name} 200 1.2 ms request_id=id-2")
