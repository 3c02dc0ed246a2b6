"""The documentation page."""

from __future__ import annotations

from typing import Any


def page(document: dict[str, Any]) -> str:
    return f"<!doctype html><title>Tidepool</title><pre>{document}</pre>"
