"""The log of a server as its events."""

from __future__ import annotations

import json
from typing import Any

from tests.system.server import Server


def events(server: Server, message: str) -> list[dict[str, Any]]:
    """All lines with this message, in order, of all processes of the server. Lines that are no JSON are the last words of a process."""
    lines = [line for line in server.log().splitlines() if line.startswith("{")]
    return [found for found in map(json.loads, lines) if found["message"] == message]


def states(server: Server) -> list[str]:
    """The states that were entered, in order."""
    return [found["state"] for found in events(server, "state")]


def phases(server: Server) -> list[str]:
    """The phases of all stops, in order."""
    return [found["phase"] for found in events(server, "stop phase")]
