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
SNAPSHOTS: Json = {
    "bucket": "s3://bucket/prefix",
    "kind": "s3",
    "protection": "object storage: protects against damaged files, against mistakes, and against losing the disk or the machine",
    "durability": "local",
    "owner": True,
    "unsafe_store": None,
    "trouble": None,
    "lag_seconds": 0.4,
    "lag_rows": 2,
    "backlog_bytes": 1930,
    "sequence": 4711,
    "shipped_sequence": 4709,
    "lineage": "8f14e45fceea167a5a36dedd4bea2543",
    "epoch": 3,
    "generation": 4,
    "checkpoint": {"generation": 4, "sequence": 4096, "time": "2026-11-20T10:15:00.123456Z"},
    "checkpoint_trouble": None,
    "oldest_restorable": "2026-11-19T10:15:00Z",
    "verified": {"generation": 4, "time": "2026-11-20T10:30:00Z", "ok": True, "problems": []},
    "verified_good_at": "2026-11-20T10:30:00Z",
    "drill": None,
    "drill_good_at": None,
}
GENERATION: Json = {
    "generation": 4,
    "kind": "checkpoint",
    "created": "2026-11-20T10:15:02.5Z",
    "lineage": "8f14e45fceea167a5a36dedd4bea2543",
    "epoch": 3,
    "base_generation": 4,
    "base_sequence": 4096,
    "base_time": "2026-11-20T10:15:00.123456Z",
    "bytes": 73728,
    "counts": {"indexes": 1, "assets": 1, "assets/photos": 1},
    "pinned_by": [],
    "restorable": True,
    "replayable": True,
}
CREATED: Json = {
    **GENERATION,
    "uploaded_bytes": 73728,
    "known_bytes": 0,
    "seconds": {"copy": 0.01, "hash": 0.001, "upload": 0.05, "publish": 0.02},
}
DETAIL: Json = {
    **GENERATION,
    "writer": "c9f0f895fb98ab9159f51fd0297e236d",
    "host": "machine-1",
    "log_number": 17,
    "log_sequence": 4090,
    "engine": {"format": "1", "lmdb": "0.9.36"},
    "parent": None,
    "files": [{"path": "data.mdb", "bytes": 73728, "pieces": ["2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"]}],
}
DRILL: Json = {
    "generation": 4,
    "sequence": 4711,
    "time": "2026-11-20T10:40:00Z",
    "ok": True,
    "problems": [],
    "queries": 16,
    "bytes": 73728,
    "seconds": 0.31,
}
STATUS: Json = {"version": "0.1.0", "mode": "normal", "network": None, "state": "ready", "reason": "", "snapshots": SNAPSHOTS}
SERVICE: Json = {
    "title": "Tidepool",
    "description": "Similarity search for ISCC codes",
    "version": "0.1.0",
    "docs": "/docs",
    "mode": "normal",
    "network": None,
}
NOT_READY: Json = {
    "status": "not_ready",
    "state": "restoring",
    "reason": "generation 4 of s3://bucket/prefix is being fetched",
    "phase": "fetching",
    "bytes_done": 134217728,
    "bytes_total": 1073741824,
    "eta_s": 12.5,
}

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
