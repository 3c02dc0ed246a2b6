"""The signal between a search and the columns that changed under it."""

from __future__ import annotations


class StaleView(Exception):
    """The columns were rewritten, or the index deleted, after the search's transaction began: it starts again with a newer one."""
