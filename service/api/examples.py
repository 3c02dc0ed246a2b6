"""Examples of the documentation: real ISCCs, sent and compared by a test."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ISCC_ID, OTHER_ID, THIRD_ID = "ISCC:MAIGBISBQHSAAEAB", "ISCC:MAIGBISBQHSAAIAB", "ISCC:MAIGBISBQHSAAMAB"
CODE = "ISCC:KACUX7WW7HGIA7KWJ7W7QF3BR2U565JOKTGWPQN3FN7U443PRRWYQHA"
UNITS = ["ISCC:AAAUX7WW7HGIA7KW", "ISCC:EAAU73PYC5QY5KO7", "ISCC:GAAXKLSUZVT4DOZL", "ISCC:IAAX6TTTN6GG3CA4"]
METADATA = {"name": "Harbour at dusk", "source": "https://example.org/harbour.txt"}

CREATE: Json = {"name": "photos"}
INDEX: Json = {
    "name": "photos",
    "assets": 1,
    "size": 0,
    "sizes": {"lmdb": 0, "CONTENT_TEXT_V0": 0, "DATA_NONE_V0": 0, "INSTANCE_NONE_V0": 0, "META_NONE_V0": 0},
}
ENTRY_UNITS: Json = {"iscc_id": ISCC_ID, "iscc_code": CODE, "units": UNITS, "metadata": METADATA}
ENTRY_CODE: Json = {"iscc_id": OTHER_ID, "iscc_code": CODE}
ENTRY_SIMPRINTS: Json = {
    "iscc_id": THIRD_ID,
    "iscc_code": CODE,
    "simprints": {"CONTENT_TEXT_V0": [{"simprint": "mDm7J-DD7Ao", "offset": 0, "size": 512}]},
}
RESULTS: list[Json] = [{"iscc_id": ISCC_ID, "status": "created"}]
QUERY_UNITS: Json = {"units": UNITS}
QUERY_CODE: Json = {"iscc_code": CODE}
QUERY_ID: Json = {"iscc_id": ISCC_ID}
SEARCH_RESULT: Json = {
    "query": {"iscc_code": CODE, "units": UNITS},
    "global_matches": [
        {
            "iscc_id": ISCC_ID,
            "score": 1.0,
            "types": {"META_NONE_V0": 1.0, "CONTENT_TEXT_V0": 1.0, "DATA_NONE_V0": 1.0, "INSTANCE_NONE_V0": 1.0},
            "metadata": METADATA,
        }
    ],
    "chunk_matches": [],
}
STATUS: Json = {"version": "0.1.0", "mode": "normal", "network": None, "state": "ready", "reason": ""}
SERVICE: Json = {
    "title": "Tidepool",
    "description": "Similarity search for ISCC codes",
    "version": "0.1.0",
    "docs": "/docs",
    "mode": "normal",
    "network": None,
}
NOT_READY: Json = {"status": "not_ready", "state": "opening", "reason": "the data directory is being opened"}

BAD_ID: Json = {"detail": "Asset must have iscc_id field when adding to index"}
TOO_LARGE: Json = {"detail": "the body is larger than 33554432 bytes: send less in one request, or raise ISCC_SEARCH_MAX_BODY_BYTES"}
INVALID: Json = {
    "detail": [
        {
            "loc": ["body", 3, "units", 1],
            "msg": "unit body has 4 bytes, its header says 8",
            "type": "iscc",
        }
    ]
}
DEFECT: Json = {"detail": "internal error, see the log for request 24673d7d-1b", "request_id": "24673d7d-1b"}
BUSY: Json = {"detail": "the read lane is full: 256 requests wait (ISCC_SEARCH_READ_QUEUE), send the request again"}
NO_SPACE: Json = {
    "detail": "the disk of /data/live has 12 MB left and 256 MB are kept free (ISCC_SEARCH_DISK_FREE_MIN_BYTES): nothing was stored; "
    "free space and send the request again"
}
