"""`tidepool snapshot …`: arguments in, text or JSON out. What the commands do stands in `service.boot.commands`, imported when one runs."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from service.bar import bar
from service.cli import EXIT_SETTINGS, load_settings
from service.settings import NO_BUCKET, Settings

if TYPE_CHECKING:
    from service.boot.commands.told import Told

DAY_US = 86_400_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SAMPLE = "1%"
DAYS_MAX = 36_500
DIGITS_MAX = 18


class Manner(msgspec.Struct, frozen=True):
    """What every command can be told."""

    bucket: str | None
    as_json: bool

    def tell(self, job: Callable[[Settings], Told], *, needs_bucket: bool = True) -> None:
        """Does the job, shows what it says, ends the process with its code."""
        given = {"ISCC_SEARCH_SNAPSHOT_URL": self.bucket} if self.bucket is not None else {}
        settings = load_settings(given, "warning")
        if needs_bucket and settings.snapshot_url == NO_BUCKET:
            click.echo("tidepool: ISCC_SEARCH_SNAPSHOT_URL is none, so there are no snapshots; --bucket URL names a bucket", err=True)
            sys.exit(EXIT_SETTINGS)
        from service.boot.commands.told import answered

        told = answered(lambda: job(settings))
        if self.as_json:
            click.echo(msgspec.json.encode(told.data, enc_hook=str))
        elif told.text:
            click.echo(told.text)
        for problem in told.problems:
            click.echo(f"tidepool: {problem}", err=True)
        sys.exit(told.code)


def _manner(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command the options that all have, as its first argument."""

    @wraps(command)
    def run(*, bucket: str | None, as_json: bool, **given: Any) -> None:
        command(Manner(bucket, as_json), **given)

    run = click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")(run)
    return click.option("--bucket", metavar="URL", help="file:///path or s3://bucket/prefix (ISCC_SEARCH_SNAPSHOT_URL).")(run)


def _instant(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    return None if text is None else _microseconds(text, parameter)


def _microseconds(text: str, parameter: click.Parameter) -> int:
    """Since 1970. A time without a zone means another moment on every machine: it is refused."""
    try:
        time_ = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no time: write 2026-11-20T10:15:00Z", param=parameter) from error
    if time_.tzinfo is None:
        raise click.BadParameter(
            f"{text!r} has no zone: write it in UTC with Z at its end, or with an offset such as +01:00", param=parameter
        )
    return (time_ - EPOCH) // timedelta(microseconds=1)


def _expiry(_: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """Days from now, a date (its first moment in UTC) or a time."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        if not 0 < int(text) <= DAYS_MAX:
            raise click.BadParameter(f"expected from 1 to {DAYS_MAX} days", param=parameter)
        return time.time_ns() // 1000 + int(text) * DAY_US
    return _microseconds(f"{text}T00:00:00Z" if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text) else text, parameter)


def _share(_: click.Context, parameter: click.Parameter, text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = 0.0
    if not 0 < percent <= 100:
        raise click.BadParameter(f"{text!r} is no share: write from 0.1% to 100%", param=parameter)
    return percent / 100


GENERATION = click.IntRange(min=1, max=10**DIGITS_MAX - 1)
APPLY = click.option("--apply", is_flag=True, help="Do it; without, only what would be done is shown.")
SERVICE = click.option("--url", metavar="URL", help="Where the service runs, when it is not where the settings say.")


@click.group(help="What the bucket keeps: look, check, restore, tidy up.")
def snapshot() -> None:
    """One command for each thing that an operator does."""


@snapshot.command(help="Allow a first start on this bucket.")
@_manner
def init(manner: Manner) -> None:
    from service.boot.commands import prefixes

    manner.tell(prefixes.init)


@snapshot.command(help="Make a checkpoint now, whether the service runs or not.")
@SERVICE
@_manner
def create(manner: Manner, url: str | None) -> None:
    from service.boot.commands import making

    manner.tell(lambda settings: making.create(settings, url, bar))


@snapshot.command("list", help="List all generations.")
@_manner
def list_all(manner: Manner) -> None:
    from service.boot.commands import generations

    manner.tell(generations.list_generations)


@snapshot.command(help="Show a generation, or files of unshipped writes.")
@click.argument("what", metavar="GENERATION|FILE...", nargs=-1, required=True)
@click.option("--adds", metavar="INDEX", help="Of files: what this index got, to be sent again; each line is a body for POST.")
@click.option("--deletes", metavar="INDEX", help="Of files: what this index lost; each line is an ISCC-ID.")
@_manner
def show(manner: Manner, what: tuple[str, ...], adds: str | None, deletes: str | None) -> None:
    from service.boot.commands import generations, rows

    if adds is not None and deletes is not None:
        raise click.UsageError("--adds and --deletes exclude each other")
    first, files = what[0], [Path(each) for each in what]
    if len(what) == 1 and first.isascii() and first.isdigit() and len(first) <= DIGITS_MAX:
        if adds is not None or deletes is not None:
            raise click.UsageError("--adds and --deletes go with a file")
        number = int(first)
        manner.tell(lambda settings: generations.show_generation(settings, number))
    elif adds is not None:
        manner.tell(lambda _: rows.show_adds(files, adds), needs_bucket=False)
    elif deletes is not None:
        manner.tell(lambda _: rows.show_deletes(files, deletes), needs_bucket=False)
    else:
        manner.tell(lambda _: rows.show_files(files), needs_bucket=False)


@snapshot.command(help="Tell what changed between two generations.")
@click.argument("before", type=GENERATION)
@click.argument("after", type=GENERATION)
@_manner
def diff(manner: Manner, before: int, after: int) -> None:
    from service.boot.commands import generations

    manner.tell(lambda settings: generations.differ(settings, before, after))


@snapshot.command(help="Check that what is in the bucket would restore.")
@click.argument("generation", type=GENERATION, required=False)
@click.option("--sample", default=SAMPLE, show_default=True, callback=_share, help="Share of the files that is read and hashed.")
@click.option("--full", is_flag=True, help="Read and hash all files.")
@click.option("--drill", is_flag=True, help="Restore on trial, and compare the copy's answers with those of the index.")
@SERVICE
@_manner
def verify(manner: Manner, generation: int | None, sample: float, *, full: bool, drill: bool, url: str | None) -> None:
    from service.boot.commands import checks, making

    sampled = click.get_current_context().get_parameter_source("sample") is not click.core.ParameterSource.DEFAULT
    if full and sampled:
        raise click.UsageError("--full and --sample exclude each other")
    if drill and (full or sampled or generation is not None):
        raise click.UsageError("--drill takes the newest generation, and no share of it")
    if url and not drill:
        raise click.UsageError("--url goes with --drill")
    if drill:
        manner.tell(lambda settings: making.drill(settings, url, bar))
    else:
        manner.tell(lambda settings: checks.check(settings, generation, 1.0 if full else sample, bar))


@snapshot.command(help="Restore into a directory, also a state of the past.")
@click.option("--target", required=True, type=click.Path(path_type=Path), help="Directory that is made.")
@click.option("--at", "at_us", metavar="TIME", callback=_instant, help="As it was then, such as 2026-11-20T10:15:00Z.")
@click.option("--sequence", type=click.IntRange(min=0), help="As it was after this request.")
@click.option("--generation", type=GENERATION, help="Exactly as this generation was made.")
@click.option("--replay", is_flag=True, help="With --generation: and replay the log behind it, to its end.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and change nothing.")
@click.option("--force", is_flag=True, help="Replace a target that is not empty.")
@_manner
def restore(
    manner: Manner,
    target: Path,
    at_us: int | None,
    sequence: int | None,
    generation: int | None,
    *,
    replay: bool,
    dry_run: bool,
    force: bool,
) -> None:
    if sum(each is not None for each in (at_us, sequence, generation)) > 1:
        raise click.UsageError("--at, --sequence and --generation exclude each other")
    if replay and generation is None:
        raise click.UsageError("--replay goes with --generation")
    from service.boot.commands import restoring

    wanted = restoring.Moment(at_us, sequence, generation, replay)
    if dry_run:
        manner.tell(lambda settings: restoring.plan(settings, target, wanted, force=force))
    else:
        manner.tell(lambda settings: restoring.restore(settings, target, wanted, bar, force=force))


@snapshot.command(help="Keep a generation (the newest) for good or for long.")
@click.argument("name")
@click.argument("generation", type=GENERATION, required=False)
@click.option("--expires", "expires_us", metavar="DAYS|DATE", callback=_expiry, help="When the pin ends by itself.")
@_manner
def pin(manner: Manner, name: str, generation: int | None, expires_us: int | None) -> None:
    from service.boot.commands import retaining

    manner.tell(lambda settings: retaining.set_pin(settings, name, generation, expires_us))


@snapshot.command(help="Remove a pin: what it held may be pruned.")
@click.argument("name")
@_manner
def unpin(manner: Manner, name: str) -> None:
    from service.boot.commands import retaining

    manner.tell(lambda settings: retaining.remove_pin(settings, name))


@snapshot.command(help="Delete generations and log that are not retained.")
@APPLY
@_manner
def prune(manner: Manner, *, apply: bool) -> None:
    from service.boot.commands import retaining

    manner.tell(lambda settings: retaining.thin_out(settings, apply=apply))


@snapshot.command(help="Delete files that no generation names any more.")
@APPLY
@_manner
def gc(manner: Manner, *, apply: bool) -> None:
    from service.boot.commands import retaining

    manner.tell(lambda settings: retaining.collect(settings, apply=apply))


@snapshot.command(help="Try the store, and say what stands in the bucket.")
@_manner
def doctor(manner: Manner) -> None:
    from service.boot.commands import prefixes

    manner.tell(prefixes.doctor)
