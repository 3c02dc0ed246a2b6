"""Manifests: what a restore needs, and the hint. JSON; `digest` is the SHA-256 of the same JSON with an empty `digest`."""

from __future__ import annotations

import msgspec

from snapshots.errors import Corrupt, Refused
from snapshots.files import sha256
from snapshots.log import START, Place
from snapshots.paths import manifest_key

FORMAT = 1
PIECE_BYTES = 128 << 20


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a base. All pieces but the last have `piece_bytes`."""

    path: str
    size: int
    pieces: list[str]
    """SHA-256 of each, in order. A file of no bytes has none."""
    piece_bytes: int = PIECE_BYTES


class Parent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a lineage branched off another."""

    lineage: str
    sequence: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One generation. `kind` is `checkpoint` (a new base) or `claim` (the same base, a new owner)."""

    format: int = FORMAT
    kind: str
    lineage: str
    epoch: int
    generation: int
    writer: str
    host: str
    created_us: int
    base_generation: int
    """The checkpoint whose files these are; 0 when there is none: everything is in the log."""
    base_sequence: int
    base_time_us: int
    log: Place
    """The log object behind which replay begins; rows up to `base_sequence` are skipped."""
    engine: dict[str, str]
    counts: dict[str, int]
    files: list[File]
    parent: Parent | None = None
    digest: str = ""

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def pieces(self) -> set[str]:
        return {digest for file in self.files for digest in file.pieces}


class Hint(msgspec.Struct, frozen=True):
    """The newest generation and the end of its log when it was written. May be old, never ahead: what it names was there, and a bucket
    that has it no more has lost it. `digest` is empty in a hint of before there was one."""

    lineage: str
    epoch: int
    generation: int
    manifest_digest: str
    log_number: int
    writer: str
    updated_us: int
    digest: str = ""


class PrefixFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The first object of a prefix."""

    layout: int
    id: str
    hash: str
    created_by: str
    created_us: int


EMPTY_LOG = Place(0, START, 0)


def seal(manifest: Manifest) -> tuple[Manifest, bytes]:
    """The manifest with its digest, and its bytes."""
    bare = msgspec.structs.replace(manifest, digest="")
    sealed = msgspec.structs.replace(bare, digest=sha256(msgspec.json.encode(bare)))
    return sealed, msgspec.json.encode(sealed)


def seal_hint(hint: Hint) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(hint, digest=_hint_digest(hint)))


def read_hint(data: bytes) -> Hint | None:
    """None when it is not what was written: a hint that is wrong would tell of a loss that never was."""
    try:
        hint = msgspec.json.decode(data, type=Hint)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return hint if hint.digest in ("", _hint_digest(hint)) else None


def _hint_digest(hint: Hint) -> str:
    return sha256(msgspec.json.encode(msgspec.structs.replace(hint, digest="")))


def read(generation: int, data: bytes) -> Manifest:
    """Reads and checks. Raises Corrupt, or Refused for a manifest of a newer version."""
    key = manifest_key(generation)
    try:
        version = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).get("format")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"manifest cannot be read key={key}: {error}") from error
    if version is None or bytes(version) != str(FORMAT).encode():
        shown = None if version is None else bytes(version).decode("ascii", "replace")
        raise Refused(
            f"manifest {key} has format {shown}, this version reads {FORMAT}: run the version of tidepool that wrote it, or a newer one"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"manifest cannot be read key={key}: {error}") from error
    if seal(manifest)[0].digest != manifest.digest:
        raise Corrupt(f"manifest differs from its digest key={key}")
    if manifest.generation != generation:
        raise Corrupt(f"manifest is not the one of its name key={key} generation={manifest.generation}")
    return manifest
