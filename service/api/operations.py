"""The routes as the documentation tells them: parameters, bodies, answers, errors, with examples that the service really accepts.

A test holds this table and the routes of the application to each other, and sends every example.
"""

from __future__ import annotations

from typing import Any

import msgspec

from service.api import examples
from service.api.durability import HEADER as DURABILITY
from service.api.schema import (
    Health,
    HttpError,
    InternalError,
    IsccAddResult,
    IsccEntry,
    IsccIndex,
    IsccQuery,
    IsccSearchResult,
    IsccStoredEntry,
    LogLevel,
    Readiness,
    Service,
    Status,
    ValidationError,
)
from service.api.schema_snapshots import SnapshotCreated, SnapshotDetail, SnapshotDrill, SnapshotGeneration, SnapshotStatus

NAME, ASSET, LIMIT, CODE, EXACT, GENERATION, LEVEL = "name", "iscc_id", "limit", "iscc_code", "exact", "generation", "level"


class Answer(msgspec.Struct, frozen=True):
    """One answer of a route. `type` None is an empty or non-JSON body."""

    description: str
    type: Any = None
    example: Any = None
    media_type: str = "application/json"


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One route. `errors` are statuses of ERRORS besides those that every route of its kind has."""

    method: str
    path: str
    id: str
    tag: str
    summary: str
    description: str
    success: tuple[int, Answer]
    body: Any = None
    body_examples: dict[str, Any] = {}
    query: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    errors: tuple[int, ...] = ()


ERRORS: dict[int, Answer] = {
    400: Answer("The request makes no sense, or an ISCC-ID or a header is not valid here.", HttpError, examples.BAD_ID),
    401: Answer("The key is missing or wrong.", HttpError, {"detail": "Unauthorized"}),
    404: Answer("There is no such index, asset, generation or file, or no bucket.", HttpError, {"detail": "Index 'photos' not found"}),
    408: Answer(
        "The body did not arrive in time.", HttpError, {"detail": "the body did not arrive within 60 seconds: send smaller requests"}
    ),
    409: Answer("The name is taken, or the same runs already.", HttpError, {"detail": "Index 'photos' already exists"}),
    413: Answer("The body is too large. The answer names the limit and its setting.", HttpError, examples.TOO_LARGE),
    422: Answer("Parts of the request are wrong. Each problem has its place and its reason.", ValidationError, examples.INVALID),
    429: Answer(
        "Too many searches without the key from one address, where that is limited.",
        HttpError,
        {"detail": "too many searches without the key from this address (ISCC_SEARCH_RATE_LIMIT): send the request again in 12 seconds"},
    ),
    500: Answer("A defect of the service, or damaged files. The log has a line with this request id.", InternalError, examples.DEFECT),
    503: Answer(
        "Not now: starting, stopping or full, or the bucket does not answer. Send the request again after `Retry-After`, which is "
        "harmless: nothing was done, or a write is on the disk and not in the bucket yet. When the answer says that it took too long, "
        "a write may still happen.",
        HttpError,
        examples.BUSY,
    ),
    507: Answer("Too little room on the disk. Nothing was stored.", HttpError, examples.NO_SPACE),
}

READ_ERRORS = (401, 500, 503)
WRITE_ERRORS = (401, 500, 503, 507)
BODY_ERRORS = (400, 408, 413, 422)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="get",
        path="/indexes",
        id="list_indexes",
        tag="indexes",
        summary="List indexes",
        description="All indexes by name. Counters, not measurements: it costs nothing to ask often.",
        success=(200, Answer("The indexes.", list[IsccIndex], [examples.INDEX])),
        errors=READ_ERRORS,
    ),
    Operation(
        method="post",
        path="/indexes",
        id="create_index",
        tag="indexes",
        summary="Create an index",
        description="An empty index. Its first asset decides its realm.",
        body=IsccIndex,
        body_examples={"index": examples.CREATE},
        headers=(DURABILITY,),
        success=(201, Answer("The new index.", IsccIndex, {"name": "photos", "assets": 0, "size": 0})),
        errors=(*BODY_ERRORS, 409, *WRITE_ERRORS),
    ),
    Operation(
        method="get",
        path="/indexes/{name}",
        id="get_index",
        tag="indexes",
        summary="Look at an index",
        description="Number of assets and stored sizes.",
        success=(200, Answer("The index.", IsccIndex, examples.INDEX)),
        errors=(404, *READ_ERRORS),
    ),
    Operation(
        method="delete",
        path="/indexes/{name}",
        id="delete_index",
        tag="indexes",
        summary="Delete an index",
        description="The index and all its assets are gone at once; their space is freed in the background. The name is free again.",
        headers=(DURABILITY,),
        success=(204, Answer("Deleted.")),
        errors=(400, 404, *WRITE_ERRORS),
    ),
    Operation(
        method="post",
        path="/indexes/{name}/assets",
        id="add_assets",
        tag="assets",
        summary="Add or replace assets",
        description=(
            "Stores all assets of the request or none. When the answer comes they are on the disk and every search finds them. An asset "
            "that is there already is replaced: code, units and metadata wholly; simprints only when given. Sending the same request "
            "again is harmless."
        ),
        body=list[IsccEntry],
        body_examples={"units": [examples.ENTRY_UNITS], "code": [examples.ENTRY_CODE], "simprints": [examples.ENTRY_SIMPRINTS]},
        headers=(DURABILITY,),
        success=(201, Answer("One result for each asset, in the order of the request.", list[IsccAddResult], examples.RESULTS)),
        errors=(404, *BODY_ERRORS, *WRITE_ERRORS),
    ),
    Operation(
        method="get",
        path="/indexes/{name}/assets/{iscc_id}",
        id="get_asset",
        tag="assets",
        summary="Read an asset",
        description="The asset as it was added, without simprints. The base32 part of the ISCC-ID may be in lower case.",
        success=(200, Answer("The asset.", IsccStoredEntry, examples.ENTRY_UNITS)),
        errors=(400, 404, *READ_ERRORS),
    ),
    Operation(
        method="delete",
        path="/indexes/{name}/assets/{iscc_id}",
        id="delete_asset",
        tag="assets",
        summary="Delete an asset",
        description="No search that starts after the answer finds it.",
        headers=(DURABILITY,),
        success=(204, Answer("Deleted.")),
        errors=(400, 404, *WRITE_ERRORS),
    ),
    Operation(
        method="post",
        path="/indexes/{name}/search",
        id="search",
        tag="search",
        summary="Search by units, code, simprints or ISCC-ID",
        description=(
            "Assets with at least one unit at or above the match threshold, best first. The score of an asset depends on the query and "
            "the asset alone, not on `limit`. Units of different lengths are compared over the shorter one; INSTANCE units match by "
            "identity. Simprints find the chunks of assets that are like them, with their places: `chunk_matches` is a list of its own."
        ),
        body=IsccQuery,
        body_examples={"units": examples.QUERY_UNITS, "code": examples.QUERY_CODE, "iscc_id": examples.QUERY_ID},
        query=(LIMIT, EXACT),
        success=(200, Answer("The matches.", IsccSearchResult, examples.SEARCH_RESULT)),
        errors=(404, *BODY_ERRORS, 429, *READ_ERRORS),
    ),
    Operation(
        method="get",
        path="/indexes/{name}/search",
        id="search_code",
        tag="search",
        summary="Search by code",
        description="The same as a search with `iscc_code` in the body. A code that is not valid is a 400 here.",
        query=(CODE, LIMIT),
        success=(200, Answer("The matches.", IsccSearchResult, examples.SEARCH_RESULT)),
        errors=(400, 404, 422, 429, *READ_ERRORS),
    ),
    Operation(
        method="get",
        path="/snapshots",
        id="list_snapshots",
        tag="snapshots",
        summary="List generations",
        description="Everything that the bucket holds, from the oldest to the newest. Each one is read: do not ask every second.",
        success=(200, Answer("The generations.", list[SnapshotGeneration], [examples.GENERATION])),
        errors=(404, *READ_ERRORS),
    ),
    Operation(
        method="post",
        path="/snapshots",
        id="create_snapshot",
        tag="snapshots",
        summary="Make a checkpoint now",
        description=(
            "A new base, so that a restore replays nothing older. Not needed for safety: every write is in the bucket within about a "
            "second. The answer comes when it is done; a client that goes away does not stop it."
        ),
        success=(201, Answer("The new generation.", SnapshotCreated, examples.CREATED)),
        errors=(404, *WRITE_ERRORS),
    ),
    Operation(
        method="get",
        path="/snapshots/{generation}",
        id="get_snapshot",
        tag="snapshots",
        summary="Look at a generation",
        description="What its manifest says, with its files.",
        success=(200, Answer("The generation.", SnapshotDetail, examples.DETAIL)),
        errors=(404, *READ_ERRORS),
    ),
    Operation(
        method="get",
        path="/snapshots/status",
        id="snapshot_status",
        tag="snapshots",
        summary="How does the bucket stand?",
        description="The same as `snapshots` of `/status`. Never waits and asks the bucket nothing.",
        success=(200, Answer("What this process knows.", SnapshotStatus, examples.SNAPSHOTS)),
        errors=(401, 404, 500),
    ),
    Operation(
        method="post",
        path="/snapshots/drill",
        id="drill_snapshot",
        tag="snapshots",
        summary="Restore on trial",
        description=(
            "Restores to a directory beside the data, compares the assets and the answers of some searches with those of the running "
            "index, and deletes it. Takes as long as a restore, and as much room on the disk. Also runs by itself, every "
            "ISCC_SEARCH_SNAPSHOT_DRILL_INTERVAL seconds."
        ),
        success=(200, Answer("What was found, whether it is good or bad.", SnapshotDrill, examples.DRILL)),
        errors=(404, 409, *WRITE_ERRORS),
    ),
    Operation(
        method="get",
        path="/healthz",
        id="healthz",
        tag="service",
        summary="Does the process live?",
        description="For liveness probes. Never touches the data.",
        success=(200, Answer("It lives.", Health, {"status": "ok"})),
    ),
    Operation(
        method="get",
        path="/readyz",
        id="readyz",
        tag="service",
        summary="Is every acknowledged asset served?",
        description="For readiness probes. Until it is, 503 with the state, the reason and how far it is.",
        success=(200, Answer("Ready.", Readiness, {"status": "ready"})),
        errors=(),
    ),
    Operation(
        method="get",
        path="/status",
        id="status",
        tag="service",
        summary="What runs here",
        description="Version, state, and how the bucket stands. Never waits.",
        success=(200, Answer("Version and state.", Status, examples.STATUS)),
    ),
    Operation(
        method="get",
        path="/log-level",
        id="get_log_level",
        tag="log",
        summary="What the log has",
        description="The level that holds now.",
        success=(200, Answer("The level.", LogLevel, {"level": "info"})),
        errors=(401,),
    ),
    Operation(
        method="put",
        path="/log-level/{level}",
        id="put_log_level",
        tag="log",
        summary="Say more or less in the log",
        description="From the next line on, until the process ends. `debug` adds each call of the bucket and each commit.",
        success=(200, Answer("The level.", LogLevel, {"level": "debug"})),
        errors=(400, 401),
    ),
    Operation(
        method="get",
        path="/metrics",
        id="metrics",
        tag="service",
        summary="Metrics",
        description="Counters and gauges in the text format of Prometheus.",
        success=(200, Answer("Metrics.", str, "tidepool_ready 1.0\n", "text/plain")),
        errors=(404, 500, 503),
    ),
    Operation(
        method="get",
        path="/",
        id="root",
        tag="service",
        summary="Name and links",
        description="What answers here.",
        success=(200, Answer("Name and links.", Service, examples.SERVICE)),
    ),
)
