"""Tidepool: similarity search for ISCC codes."""

__version__ = "0.1.0"
