"""Whether what is in the bucket would restore: manifests, blobs and log are looked at, read and hashed. Nothing is written.

What is found wrong is a sentence in the report that names the object. What cannot be asked (no answer, no permission) is raised.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence, Set
from concurrent.futures import ThreadPoolExecutor

import msgspec

from snapshots.bucket import Bucket
from snapshots.catalog import LogSpan, bases, is_restorable, iso, log_span, piece_sizes, reigns, window_base
from snapshots.damaged import Break, Noted
from snapshots.errors import Corrupt, Missing, Refused
from snapshots.fetch import Progress
from snapshots.log import Place
from snapshots.manifest import Manifest
from snapshots.mark import Mark
from snapshots.paths import BLOBS, blob_key, log_key, parse_blob_key
from snapshots.pins import pins
from snapshots.prefix import Prefix
from snapshots.retention import USUAL, WINDOW_US, Policy

THREADS = 4
READINGS = 3
"""Of a log whose beginning is pruned meanwhile, beyond the first."""
RANGE_BYTES = 8 << 20
"""Of a blob, in memory of each thread."""


class Report(msgspec.Struct, frozen=True):
    """`problems` is empty when all that was looked at is right. `generation` None: all were looked at."""

    generation: int | None
    manifests: int
    blobs: int
    bytes: int
    read_blobs: int
    read_bytes: int
    log_objects: int
    log_rows: int
    log_bytes: int
    problems: tuple[str, ...]
    damaged: tuple[str, ...] = ()
    """Digests of the blobs among the problems: missing, or not what they should be."""
    gone: tuple[str, ...] = ()
    """Suspects that no manifest names and that are not there: who needs one again writes it."""
    broken: Break | None = None
    """Where the log behind the newest manifest cannot be replayed any further: only a newer checkpoint makes its end restorable."""

    @property
    def noted(self) -> Noted:
        """What a checkpoint can put right."""
        return Noted(frozenset(self.damaged), frozenset([self.broken] if self.broken is not None else []))


def verify(
    prefix: Prefix,
    generation: int | None,
    share: float,
    seed: int,
    progress: Progress,
    now_us: int,
    policy: Policy = USUAL,
    suspects: Set[str] = frozenset(),
    mark: Mark | None = None,
) -> Report:
    """Reads the log, and of the blobs about `share` of the bytes, at least one blob, and those of `suspects` that are named. Raises Missing
    for a generation that is not there. `mark`: what an owner had shipped before it asked.

    The log is read whole, since each object must be linked to the one before: that is what was written in the last day or two.
    """
    progress.begin("reading manifests", 0)
    problems: list[str] = []
    manifests = _manifests(prefix, problems)
    whole = not problems
    chosen = manifests if generation is None else _one(prefix, manifests, generation)
    sizes = piece_sizes([each for each in chosen if is_restorable(each, manifests)])
    wrong = look(prefix.bucket, sizes)
    there = {digest: sizes[digest] for digest in sorted(sizes) if digest not in wrong}
    sample = _sample(there, share, seed) | {digest: there[digest] for digest in sorted(suspects & there.keys())}
    wrong |= _read(prefix.bucket, sample, progress)
    problems += wrong.values()
    problems += _dangling_pins(prefix, manifests) if generation is None else []
    chain = _Chain(prefix, manifests, now_us, policy, mark)
    if manifests:
        chain.follow(progress)
    return Report(
        generation=generation,
        manifests=len(chosen),
        blobs=len(sizes),
        bytes=sum(sizes.values()),
        read_blobs=len(sample),
        read_bytes=sum(sample.values()),
        log_objects=chain.objects,
        log_rows=chain.rows,
        log_bytes=chain.bytes,
        problems=(*problems, *chain.problems),
        damaged=tuple(sorted(wrong)),
        gone=_gone(prefix.bucket, suspects - sizes.keys()) if whole and generation is None else (),
        broken=chain.broken,
    )


def _manifests(prefix: Prefix, problems: list[str]) -> list[Manifest]:
    """Those that can be read; the others are problems."""
    hint = prefix.hint()  # before the manifests: it must not name one that came later
    found = []
    for generation in prefix.generations():
        try:
            found.append(prefix.manifest(generation))
        except (Corrupt, Refused) as error:
            problems.append(str(error))
        except Missing:  # pruned since it was listed
            continue
    if prefix.format() is None:
        problems.append(f"{prefix.bucket.url} has no v1/format.json")
    if not found:
        problems.append(f"{prefix.bucket.url} holds no manifest that can be read")
    if hint is not None and found and hint.generation > found[-1].generation and not problems:
        problems.append(f"the hint names generation {hint.generation}, the newest manifest is {found[-1].generation}")
    return found


def _one(prefix: Prefix, manifests: Sequence[Manifest], generation: int) -> list[Manifest]:
    found = [each for each in manifests if each.generation == generation]
    if not found:
        raise Missing(f"{prefix.bucket.url} has no generation {generation} that can be read")
    if not is_restorable(found[0], manifests):
        raise Missing(f"generation {generation} stands on the checkpoint {found[0].base_generation}, which was pruned")
    return found


def _dangling_pins(prefix: Prefix, manifests: Sequence[Manifest]) -> list[str]:
    there = {each.generation for each in manifests}
    try:
        return [
            f"the pin {each.name} names generation {each.generation}, which is not there"
            for each in pins(prefix)
            if each.generation not in there
        ]
    except (Corrupt, Refused) as error:
        return [str(error)]


def look(bucket: Bucket, sizes: dict[str, int]) -> dict[str, str]:
    """By digest, what is wrong with blobs that are not there with the right size. Nothing is read."""
    listed = {parse_blob_key(entry.key): entry.size for entry in bucket.list(BLOBS)} if sizes else {}
    wrong = {}
    for digest, size in sorted(sizes.items()):
        key = blob_key(digest)
        if listed.get(digest) == size:
            continue
        entry = bucket.head(key)
        if entry is None:
            wrong[digest] = f"blob is missing key={key} bytes={size}"
        elif entry.size != size:
            wrong[digest] = f"blob has another size than its manifest says key={key} bytes={entry.size} expected={size}"
    return wrong


def _gone(bucket: Bucket, digests: Set[str]) -> tuple[str, ...]:
    return tuple(each for each in sorted(digests) if bucket.head(blob_key(each)) is None)


def _sample(sizes: dict[str, int], share: float, seed: int) -> dict[str, int]:
    """Blobs by chance, until their bytes are the share; at least one when there is one."""
    order = list(sizes)
    random.Random(seed).shuffle(order)  # noqa: S311 - no secret
    wanted = share * sum(sizes.values())
    chosen: dict[str, int] = {}
    taken = 0
    for digest in order:
        if chosen and taken >= wanted:
            break
        chosen[digest] = sizes[digest]
        taken += sizes[digest]
    return chosen


def _read(bucket: Bucket, sizes: dict[str, int], progress: Progress) -> dict[str, str]:
    """Hashes blobs, a few at a time, each in ranges. By digest, what is wrong."""
    progress.begin("reading blobs", sum(sizes.values()))
    wrong = {}
    with ThreadPoolExecutor(THREADS, thread_name_prefix="verify") as pool:
        found = pool.map(lambda each: _problem(bucket, *each), sizes.items())
        for (digest, size), problem in zip(sizes.items(), found, strict=True):
            progress.add(size)
            if problem:
                wrong[digest] = problem
    return wrong


def _problem(bucket: Bucket, digest: str, size: int) -> str:
    """Empty when the blob is what its name says."""
    key = blob_key(digest)
    found = hashlib.sha256()
    try:
        for start in range(0, size, RANGE_BYTES):
            found.update(bucket.get(key, start, min(RANGE_BYTES, size - start)))
    except (Missing, Corrupt) as error:
        return f"blob cannot be read key={key}: {error}"
    return "" if found.hexdigest() == digest else f"blob differs from its digest key={key} found={found.hexdigest()}"


class _Chain:
    """The log of the newest lineage, from the oldest base on whose log is whole. Lives as long as one verification."""

    def __init__(self, prefix: Prefix, manifests: Sequence[Manifest], now_us: int, policy: Policy, mark: Mark | None) -> None:
        self._prefix = prefix
        self._manifests = manifests
        self._now_us = now_us
        self._mark = mark
        self._window_us = min(policy.window_us, WINDOW_US)  # of a longer one: what was pruned before somebody set it is no loss
        self.objects = self.rows = self.bytes = 0
        self.problems: list[str] = []
        self.broken: Break | None = None

    def follow(self, progress: Progress) -> None:
        """Once more when the owner pruned meanwhile: what went from the beginning of the log is no loss."""
        span = self._read(progress)
        for _ in range(READINGS):
            if not self.problems or self._span().first == span.first:
                return
            self.objects = self.rows = self.bytes = 0
            self.problems, self.broken = [], None
            span = self._read(progress)

    def _read(self, progress: Progress) -> LogSpan:
        """The log as far as it stood there at the beginning."""
        newest = self._manifests[-1]
        seen = self._seen()  # before the log: it must not name what came later
        span = self._span()
        self._require_reach(span)
        ours = [each for each in self._manifests if each.lineage == newest.lineage]
        starts = [each.log for each in (*bases(ours), newest) if span.goes_on(each.log)]
        places = {(place.number, place.digest, place.sequence) for place in starts}
        progress.begin("reading the log", 0)
        end = self._walk(newest.lineage, min(starts, key=lambda place: place.number), span, places, progress) if starts else newest.log
        if end.number < newest.log.number and span.goes_on(newest.log):  # broken where the newest state does not need it
            end = self._walk(newest.lineage, newest.log, span, places, progress)
        if not span.goes_on(newest.log):
            self.broken = Break(newest.lineage, span.first - 1)
        elif end.number < span.tail:
            self.broken = Break(newest.lineage, end.number + 1)
        elif seen > span.tail:
            self.problems.append(
                f"the log of lineage {newest.lineage} ends before object {seen}, which was there: the newest state cannot be restored"
            )
            self.broken = Break(newest.lineage, seen)
        last = max(each.base_sequence for each in ours)
        if end.sequence < last and not self.problems:
            self.problems.append(f"the log of lineage {newest.lineage} ends at request {end.sequence}, a base has {last}")
        return span

    def _seen(self) -> int:
        """The last object of the log that is known to have been there, by its owner's hint and mark."""
        lineage, mark = self._manifests[-1].lineage, self._mark
        return max(self._prefix.hinted(lineage), mark.log.number if mark is not None and mark.lineage == lineage else 0)

    def _span(self) -> LogSpan:
        """The log. What does not reach the place of the newest manifest is as good as none: nothing is replayed from there."""
        newest = self._manifests[-1]
        span = log_span(self._prefix, newest.lineage)
        number = newest.log.number
        return span if span.tail >= number else LogSpan(newest.lineage, number + 1, number)

    def _require_reach(self, span: LogSpan) -> None:
        """Everything that a restore to the newest state, or to a moment in the window, replays."""
        newest, reign = self._manifests[-1], reigns(self._manifests)[-1]
        if not span.goes_on(newest.log):
            self.problems.append(self._gap(span, newest, "the newest state cannot be restored"))
            return
        base = window_base(reign, self._now_us, self._window_us)
        needed = base or next(iter(bases(reign.manifests)), None)
        if needed is not None and not span.goes_on(needed.log):
            since = iso(max(needed.base_time_us, self._now_us - self._window_us))
            self.problems.append(self._gap(span, needed, f"not every moment since {since} can be restored"))

    def _gap(self, span: LogSpan, manifest: Manifest, meaning: str) -> str:
        number = manifest.log.number
        what = f"log objects between {number} and {span.first} are missing"
        return f"{what}, generation {manifest.generation} needs all behind {number} lineage={span.lineage}: {meaning}"

    def _walk(self, lineage: str, start: Place, span: LogSpan, named: set[tuple[int, str, int]], progress: Progress) -> Place:
        """The end of the chain, or where it broke."""
        end = start
        try:
            for found in self._prefix.follow(lineage, start):
                end = found.place
                self.objects, self.rows, self.bytes = self.objects + 1, self.rows + found.header.rows, self.bytes + found.size
                progress.add(found.size)
                if any(number == end.number and rest != [end.digest, end.sequence] for number, *rest in named):
                    self.problems.append(f"a manifest names another log object than is there key={log_key(lineage, end.number)}")
        except Corrupt as error:
            self.problems.append(str(error))
        else:
            if end.number < span.tail:
                self.problems.append(f"log object is missing key={log_key(lineage, end.number + 1)}")
        return end
