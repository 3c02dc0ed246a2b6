"""What a command answers, the bucket that it works on, and how errors become exit codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from service.boot.exits import EXIT_DAMAGED, EXIT_FAILED, exit_code
from service.engine.errors import Damaged, EngineError
from service.settings import Settings
from snapshots.addresses import open_bucket
from snapshots.errors import Missing, SnapshotError
from snapshots.prefix import Prefix

EXIT_PROBLEMS = 4


class Told(msgspec.Struct, frozen=True):
    """`data` is for programs, `text` for people. `problems` go to stderr, one line each, and come with a `code`."""

    data: object
    text: str
    problems: tuple[str, ...] = ()
    code: int = 0


class Failure(msgspec.Struct, frozen=True):
    """The answer to programs when a command could not be carried out."""

    error: str
    code: int


def answered(job: Callable[[], Told]) -> Told:
    """What the job says, or why it failed: in one line, without a trace."""
    try:
        return job()
    except SnapshotError as error:
        return _failed(str(error), exit_code(error))
    except EngineError as error:
        return _failed(str(error), EXIT_DAMAGED if isinstance(error, Damaged) else EXIT_FAILED)
    except OSError as error:
        return _failed(f"{error.filename or 'the file system'}: {error.strerror or error}", EXIT_FAILED)


@contextmanager
def opened_prefix(settings: Settings, *, make: bool = False) -> Iterator[Prefix]:
    """The prefix of the settings. A directory that is not there is made only when `make` says so: looking leaves no trace."""
    url = settings.snapshot_url
    directory = bucket_directory(url)
    if directory is not None and not make and not directory.is_dir():
        raise Missing(f"there is no bucket {url}: {directory} is not there")
    bucket = open_bucket(url, settings.environment, encryption=settings.snapshot_encryption)
    try:
        yield Prefix(bucket)
    finally:
        bucket.close()


def bucket_directory(url: str) -> Path | None:
    """Where a bucket stands that is a directory."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def _failed(why: str, code: int) -> Told:
    why = " ".join(why.splitlines())
    return Told(Failure(why, code), "", (why,), code)
