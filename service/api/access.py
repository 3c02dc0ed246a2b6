"""What the handlers need from the process around them. `service.boot` is it; nothing else of the process is visible here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from service.api.schema_snapshots import SnapshotCreated, SnapshotDetail, SnapshotDrill, SnapshotGeneration, SnapshotStatus
from service.engine.engine import Engine
from service.engine.requests import Answer, Request

T = TypeVar("T")


class State(msgspec.Struct, frozen=True):
    """Where the process stands: `name` is restoring, opening, catching-up, ready, draining or failed."""

    name: str
    reason: str
    serves: bool
    """Whether data routes answer."""
    phase: str = ""
    """What of a long state goes on; the figures belong to it."""
    bytes_done: int = 0
    bytes_total: int = 0
    eta_s: float | None = None


class Snapshots(Protocol):
    """The way to the bucket. Called on the event loop. Everything but `status` asks the bucket, and raises Busy while this process does
    not own it or it cannot be reached."""

    def status(self) -> SnapshotStatus:
        """Never waits."""

    def generations(self) -> Awaitable[list[SnapshotGeneration]]:
        """From the oldest to the newest."""

    def generation(self, number: int) -> Awaitable[SnapshotDetail]:
        """Raises NotFound."""

    def create(self) -> Awaitable[SnapshotCreated]:
        """Makes a checkpoint now. Raises Busy while another one is made."""

    def drill(self) -> Awaitable[SnapshotDrill]:
        """A restore on trial; may take minutes. Raises Conflict while another one runs."""


class Access(Protocol):
    """The way to the engine. Called on the event loop."""

    @property
    def state(self) -> State:
        """Never waits."""

    def read(self, job: Callable[[Engine], T]) -> Awaitable[T]:
        """Runs the job on the read lane. Raises NotReady, Busy, or what the job raises."""

    def write(self, request: Request, size: int, *, remote: bool | None = None) -> Awaitable[Answer]:
        """Commits the request, whose body had `size` bytes; with `remote` the bucket has it too. Raises NotReady, Busy, or a refusal."""

    @property
    def snapshots(self) -> Snapshots | None:
        """None when there is no bucket."""

    def metrics(self) -> Awaitable[bytes]:
        """The text for Prometheus, whatever the state is."""


class Switches(msgspec.Struct, frozen=True):
    """Parts of the interface that may be off. Settings of the same names."""

    docs: bool = True
    metrics: bool = True


class Limits(msgspec.Struct, frozen=True):
    """Upper bounds of what a client may send. Each belongs to a setting of the same name, `ISCC_SEARCH_` before it."""

    max_body_bytes: int = 32 << 20
    max_query_bytes: int = 1 << 20
    read_queue_bytes: int = 256 << 20
    max_assets: int = 1000
    max_units: int = 64
    max_simprints: int = 100_000
    max_query_simprints: int = 1000
    max_metadata_bytes: int = 1 << 20
    max_limit: int = 1000
    simprints: bool = True
    """Whether they are accepted at all."""
