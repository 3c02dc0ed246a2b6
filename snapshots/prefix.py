"""What stands under one prefix of a bucket, read and checked: its format, its manifests, its log."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

import msgspec

from snapshots import manifest as manifests
from snapshots.bucket import Bucket
from snapshots.errors import Corrupt, Missing, Refused, Unreachable
from snapshots.log import DIGEST_BYTES, LogObject, Place, require_link, thaw
from snapshots.manifest import Hint, Manifest, PrefixFormat
from snapshots.paths import FORMAT, HINT, MANIFESTS, log_folder, log_key, manifest_key, parse_log_key, parse_manifest_key

LAYOUT = 1
READ_AHEAD = 16
"""Log objects that are fetched at a time: each is a few MiB at most."""


class Prefix:
    """Any thread may call. Holds nothing but the bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def format(self) -> PrefixFormat | None:
        """None when nobody initialised this prefix. Raises Refused for a layout of a newer version."""
        try:
            data = self.bucket.get(FORMAT)
        except Missing:
            return None
        try:
            found = msgspec.json.decode(data, type=PrefixFormat)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Corrupt(f"{self.bucket.url}/{FORMAT} cannot be read: {error}") from error
        if found.layout != LAYOUT:
            raise Refused(f"{self.bucket.url} has layout {found.layout}, this version reads {LAYOUT}: run a newer version of tidepool")
        return found

    def initialise(self, created_by: str, now_us: int) -> None:
        """Makes the prefix one of ours. Harmless when it is already."""
        wanted = PrefixFormat(layout=LAYOUT, id=secrets.token_hex(16), hash="sha256", created_by=created_by, created_us=now_us)
        if not self.bucket.create(FORMAT, msgspec.json.encode(wanted)):
            self.format()

    def generations(self) -> list[int]:
        """The generations that the store lists, in order."""
        found = (parse_manifest_key(entry.key) for entry in self.bucket.list(MANIFESTS))
        return [generation for generation in found if generation is not None]

    def manifest(self, generation: int) -> Manifest:
        """Raises Missing, Corrupt or Refused."""
        return manifests.read(generation, self.bucket.get(manifest_key(generation)))

    def newest(self) -> Manifest | None:
        """The manifest with the largest generation. What is listed may be old, and so may the hint: later ones are looked for."""
        listed = self.generations()
        hint = self.hint()
        largest = max([*listed, hint.generation if hint else 0])
        if largest == 0:
            return None
        try:
            found = self.manifest(largest)
        except Missing as error:
            raise Corrupt(
                f"manifest is missing although {'it is listed' if listed else 'the hint names it'} generation={largest}"
            ) from error
        while (later := self.manifest_or_none(found.generation + 1)) is not None:
            found = later
        return found

    def manifest_or_none(self, generation: int) -> Manifest | None:
        try:
            return self.manifest(generation)
        except Missing:
            return None

    def create_manifest(self, wanted: Manifest) -> Manifest | None:
        """The manifest as it stands now; None when its generation is somebody else's."""
        sealed, body = manifests.seal(wanted)
        return sealed if self.bucket.create(manifest_key(sealed.generation), body) else None

    def hint(self) -> Hint | None:
        """None when there is none, or none that can be read: then nobody knows of more than is there."""
        try:
            return manifests.read_hint(self.bucket.get(HINT))
        except Missing:
            return None

    def hinted(self, lineage: str) -> int:
        """The last object of a log that its owner's hint names, 0 for none. Asked before the log is listed: what it names was there."""
        hint = self.hint()
        return hint.log_number if hint is not None and hint.lineage == lineage else 0

    def update_hint(self, newest: Manifest, log_number: int, now_us: int) -> None:
        """Does what it can: a bucket that does not answer leaves the old hint, which tells less of what was there."""
        hint = Hint(newest.lineage, newest.epoch, newest.generation, newest.digest, log_number, newest.writer, now_us)
        with suppress(Unreachable):
            self.bucket.replace(HINT, manifests.seal_hint(hint))

    def log_object(self, lineage: str, number: int) -> LogObject | None:
        """None when there is none of that number."""
        key = log_key(lineage, number)
        try:
            return thaw(key, self.bucket.get(key))
        except Missing:
            return None

    def log_digest(self, lineage: str, number: int) -> str | None:
        """The digest that a log object ends with; None when it is not there."""
        key = log_key(lineage, number)
        entry = self.bucket.head(key)
        if entry is None:
            return None
        try:
            return self.bucket.get(key, max(0, entry.size - DIGEST_BYTES)).hex()
        except Missing:
            return None

    def follow(self, lineage: str, place: Place) -> Iterator[LogObject]:
        """The log from behind `place` to its end, each object linked to the one before. Raises Corrupt at a break in the chain.

        Some objects are fetched ahead, more of them as the log proves long.
        """
        with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="log") as pool:
            waiting: deque[Future[LogObject | None]] = deque()
            ahead = 1
            number = place.number + 1
            while True:
                while len(waiting) < ahead:
                    waiting.append(pool.submit(self.log_object, lineage, number))
                    number += 1
                found = waiting.popleft().result()
                if found is None:
                    break
                require_link(found, lineage, place)
                place = found.place
                ahead = min(READ_AHEAD, ahead * 2)
                yield found
            for future in waiting:
                future.cancel()

    def require_end(self, lineage: str, place: Place) -> None:
        """Raises Corrupt when the store lists log objects behind one that is missing: a log with a hole is not the whole log."""
        for entry in self.bucket.list(log_folder(lineage), after=log_key(lineage, place.number + 1)):
            found = parse_log_key(entry.key)
            if found is not None:
                raise Corrupt(f"log object {place.number + 1} of lineage {lineage} is missing, but {found[1]} is there: the log has a gap")
