"""Instead of an engine, a network and time: a log in memory, files by chance, a bucket that fails as planned, a clock that jumps."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from snapshots import failpoints
from snapshots.bucket import Bucket, Entry
from snapshots.clock import STOOD_STILL, Clock, Woke
from snapshots.errors import Unreachable
from snapshots.log import Row
from snapshots.publish import CopiedFile, Copy

ROWS = "rows.bin"
"""The file in which an exported journal has its state."""


class Died(BaseException):
    """The process ends here: no handler of the code sees it."""


def die() -> None:
    raise Died


@contextmanager
def deaths() -> Iterator[None]:
    """Threads may die at failpoints: that is reported nowhere. Afterwards no failpoint is armed."""
    before = threading.excepthook

    def hook(told: threading.ExceptHookArgs) -> None:
        if not isinstance(told.exc_value, Died):
            before(told)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
        failpoints.disarm()


def dying_at(name: str, action: Callable[[], object]) -> None:
    """Runs `action` in a process that is killed at the failpoint."""
    failpoints.arm(name, die)
    try:
        action()
    except Died:
        return
    finally:
        failpoints.disarm()
    raise AssertionError(f"the failpoint {name} was not reached")


class MemoryJournal:
    """An engine: `rows` is its state, as carrying out all of them gives it. The log holds only rows that were written here, until they are
    released; `restart` forgets what a real one forgets. Also a source of copies."""

    def __init__(self, rows: Sequence[Row] = (), log: Sequence[Row] = ()) -> None:
        self.rows: list[Row] = list(rows)
        self.on_commit: Callable[[], None] = _nothing
        self._log: list[Row] = list(log)
        self._released = 0
        self._lock = threading.Lock()

    @property
    def sequence(self) -> int:
        return len(self.rows)

    def write(self, *bodies: bytes) -> int:
        """Commits requests, as the write lane does. Returns the sequence of the last."""
        with self._lock:
            for body in bodies:
                row = Row(len(self.rows) + 1, 1_000_000 + len(self.rows), body)
                self._log.append(row)
                self.rows.append(row)
        self.on_commit()
        return len(self.rows)

    def log_after(self, sequence: int, bytes_max: int) -> Sequence[Row]:
        found: list[Row] = []
        with self._lock:
            for row in self._log:
                if row.sequence <= max(sequence, self._released):
                    continue
                bytes_max -= len(row.data)
                if found and bytes_max < 0:
                    break
                found.append(row)
        return found

    def replay(self, rows: Sequence[Row]) -> None:
        with self._lock:
            for row in rows:
                if row.sequence > len(self.rows):
                    assert row.sequence == len(self.rows) + 1, "a gap in what is replayed"
                    self.rows.append(row)

    def release_log(self, sequence: int) -> None:
        with self._lock:
            assert sequence <= len(self.rows), "rows were released that were not committed"
            self._released = max(self._released, sequence)

    def restart(self, *, trimmed: bool = True) -> None:
        """`trimmed`: the rows that were released are gone; else they are there again, and count as needed."""
        self._log = [row for row in self._log if row.sequence > self._released or not trimmed]
        self._released = 0
        self.on_commit = _nothing

    def copy(self) -> MemoryJournal:
        """A copy of the disk."""
        with self._lock:
            return MemoryJournal(self.rows, self._log)

    def export(self, target: Path) -> Copy:
        target.mkdir()
        with self._lock:
            body = msgspec.msgpack.encode((self.rows, self._log))
            sequence = len(self.rows)
        (target / ROWS).write_bytes(body)
        return Copy(sequence, 7, {"assets": sequence}, [CopiedFile(ROWS, len(body), None)])

    def facts(self) -> dict[str, str]:
        return {"format": "1"}


def opened(folder: Path) -> MemoryJournal:
    """The journal of an export, restored."""
    rows, log = msgspec.msgpack.decode((folder / ROWS).read_bytes(), type=tuple[list[Row], list[Row]])
    return MemoryJournal(rows, log)


class FilesSource:
    """Exports a folder of files. `told` are the digests that it says it knows."""

    def __init__(self, folder: Path, sequence: int = 0) -> None:
        self.folder = folder
        self.sequence = sequence
        self.told: dict[str, str] = {}

    def fill(self, sizes: dict[str, int], seed: int = 1) -> None:
        """Files of random bytes."""
        chance = random.Random(seed)
        for name, size in sizes.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(chance.randbytes(size))

    def export(self, target: Path) -> Copy:
        target.mkdir()
        names = sorted(files_of(self.folder))
        for name in names:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((self.folder / name).read_bytes())
        files = [CopiedFile(name, (target / name).stat().st_size, self.told.get(name)) for name in names]
        return Copy(self.sequence, 7, {"assets": self.sequence}, files)

    def facts(self) -> dict[str, str]:
        return {"format": "1"}


def files_of(folder: Path) -> dict[str, bytes]:
    """Everything in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class PlannedBucket:
    """Counts the calls of another bucket and fails as planned. A plan is what the next calls of a method do: `before` (fails, nothing is
    stored), `after` (the store has it, the answer is lost), `ok`."""

    def __init__(self, inner: Bucket) -> None:
        self.inner = inner
        self.url = inner.url
        self.calls: list[tuple[str, str]] = []
        self.plans: dict[str, list[str]] = {}
        self.down = False
        self.gate: Callable[[str, str], None] = _pass
        """Called before each call, for delays and deaths."""
        self.after: Callable[[], None] = _nothing
        """Called after each."""

    def count(self) -> Counter[str]:
        return Counter(name for name, _ in self.calls)

    def keys(self, name: str) -> list[str]:
        """Of what `name` was called."""
        return [key for called, key in self.calls if called == name]

    def get(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        with self._call("get", key):
            return self.inner.get(key, start, length)

    def read(self, key: str, start: int, length: int, take: Callable[[bytes], object]) -> int:
        with self._call("get", key):
            return self.inner.read(key, start, length, take)

    def head(self, key: str) -> Entry | None:
        with self._call("head", key):
            return self.inner.head(key)

    def create(self, key: str, body: bytes) -> bool:
        with self._call("create", key):
            return self.inner.create(key, body)

    def replace(self, key: str, body: bytes) -> None:
        with self._call("replace", key):
            self.inner.replace(key, body)

    def put_file(self, key: str, path: Path, start: int, length: int) -> None:
        with self._call("put_file", key):
            self.inner.put_file(key, path, start, length)

    def list(self, prefix: str, after: str = "") -> Iterator[Entry]:
        with self._call("list", prefix):
            return iter(list(self.inner.list(prefix, after)))

    def delete(self, key: str) -> bool:
        with self._call("delete", key):
            return self.inner.delete(key)

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        with self._call("abort_uploads", prefix):
            return self.inner.abort_uploads(prefix, before_s)

    def close(self) -> None:
        self.inner.close()

    @contextmanager
    def _call(self, name: str, key: str) -> Iterator[None]:
        self.calls.append((name, key))
        self.gate(name, key)
        plan = self.plans.get(name)
        outcome = plan.pop(0) if plan else "ok"
        try:
            if self.down or outcome == "before":
                raise Unreachable(f"no answer to {name} {key}")
            yield
        finally:
            self.after()
        if outcome == "after":
            raise Unreachable(f"the answer to {name} {key} was lost")


class FakeClock(Clock):
    """Time that passes only in waits, at once, up to `end_s`. There it stands until the test moves it with `advance`."""

    def __init__(self, end_s: float = 0.0) -> None:
        self.end_s = end_s
        self._time_s = 0.0
        self._waiting: threading.Condition | None = None
        self._stands = threading.Event()
        super().__init__()

    def now_s(self) -> float:
        return self._time_s

    def wall_s(self) -> float:
        return self._time_s

    def watch(self, woke: Woke) -> None:
        self._woke = woke

    def beat(self) -> None:
        """Time that passes here is no sign: see `freeze`."""

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        if self._time_s + seconds <= self.end_s:
            self._time_s += seconds
            return
        self._time_s = max(self._time_s, self.end_s)
        self._waiting = changed
        self._stands.set()
        changed.wait(30)
        self._stands.clear()

    def advance(self, seconds: float) -> None:
        """A jump."""
        self._time_s += seconds
        self.let_pass(0.0)

    def freeze(self, seconds: float, how: str = STOOD_STILL) -> None:
        """The process stands still so long, and goes on. `how` is what it sees of that."""
        self._time_s += seconds
        self._awake_since_s = self._time_s
        self._woke(how, seconds)
        self.let_pass(0.0)

    def let_pass(self, seconds: float) -> None:
        """Comes back when all of it has passed."""
        self.end_s = self._time_s + seconds
        if self._waiting is not None:
            with self._waiting:
                self._stands.clear()
                self._waiting.notify_all()
        if seconds:
            self.await_standing()

    def await_standing(self) -> None:
        """Until the thread has nothing to do at this time."""
        assert self._stands.wait(30)


def _nothing() -> None:
    pass


def _pass(name: str, key: str) -> None:
    pass
