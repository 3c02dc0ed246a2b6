"""The `tidepool` command."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import NoReturn

import click
import msgspec

from service import __version__
from service.engine.errors import EngineError
from service.logs import logger, set_up
from service.settings import Effective, Settings, SettingsError, effective_process, load_process

EXIT_FAILED = 1
EXIT_SETTINGS = 2
EXIT_PROBLEMS = 4
SNAPSHOT = "snapshot"


class Commands(click.Group):
    """`snapshot` is loaded when somebody asks for it: `--version` and `serve` need none of it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), SNAPSHOT])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != SNAPSHOT:
            return super().get_command(ctx, cmd_name)
        from service.snapshot_cli import snapshot

        return snapshot


@click.group(cls=Commands, help="Similarity search for ISCC codes.", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tidepool")
def main() -> None:
    """Settings come from the environment and `.env`, see the README."""


@main.command(help="Run the service.")
@click.option("--host", help="IP address to listen on (ISCC_SEARCH_HOST).")
@click.option("--port", help="Port to listen on (ISCC_SEARCH_PORT).")
@click.option("--adopt-local", "adopt", flag_value="local", help="What is here replaces the lineage in the bucket.")
@click.option("--adopt-remote", "adopt", flag_value="remote", help="The bucket replaces what is here, which is set aside.")
def serve(host: str | None, port: str | None, adopt: str | None) -> None:
    given = {"ISCC_SEARCH_HOST": host, "ISCC_SEARCH_PORT": port}
    settings = load_settings({name: value for name, value in given.items() if value is not None})
    gc.disable()  # imports leave no garbage, and looking for it takes a tenth of a start; `serve` begins again
    from service import serve as server  # imported late: `--version` and wrong settings need none of it

    server.serve(settings, adopt=adopt or "")


@main.command(help="Check the files of a data directory that no process has open.")
@click.argument("directory", required=False, type=click.Path(path_type=Path))
def verify(directory: Path | None) -> None:
    from service.engine.verify import verify as find_problems

    try:
        problems = find_problems(directory or load_settings({}).directory)
    except EngineError as error:
        click.echo(f"tidepool: {error}", err=True)
        sys.exit(EXIT_FAILED)
    for problem in problems:
        click.echo(problem, err=True)
    if problems:
        sys.exit(EXIT_PROBLEMS)
    click.echo("no problems found")


@main.command(help="Show the settings that hold, and where each comes from. Secrets are not shown.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--schema", is_flag=True, help="The JSON Schema of all settings instead.")
def config(*, as_json: bool, schema: bool) -> None:
    if schema:
        from service.configuration import schema as document

        click.echo(document.text(), nl=False)
        return
    try:
        rows = effective_process()
    except SettingsError as error:
        refuse(error)
    if as_json:
        found = {row.name: {"value": row.value, "source": row.source} for row in rows}
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        click.echo("\n".join(_shown(row) for row in rows))


def _shown(row: Effective) -> str:
    """A line that a shell and `.env` understand."""
    return f"{row.name}={row.value}  # {row.source}"


def refuse(error: SettingsError) -> NoReturn:
    """Ends the process with all problems."""
    for problem in error.problems:
        click.echo(f"tidepool: {problem}", err=True)
    sys.exit(EXIT_SETTINGS)


def load_settings(overrides: dict[str, str], level: str = "") -> Settings:
    """Settings of this process, with logging set up at their level or at `level`. Ends the process with all problems if they have any."""
    try:
        settings, notices = load_process(overrides)
    except SettingsError as error:
        refuse(error)
    set_up(level or settings.log_level)
    for notice in notices:
        logger.warning(notice)
    return settings
