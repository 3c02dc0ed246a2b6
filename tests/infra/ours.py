"""What files and guides may name of this project: commands with their options, settings, routes."""

from __future__ import annotations

import re

import click

from service.api.access import Limits
from service.app import create_router
from service.cli import main
from service.configuration.table import FILE, PREFIX, SECRETS
from service.settings import SETTINGS
from tests.api.stub import NoAccess


def routes() -> set[str]:
    """Paths as templates."""
    return {route.path for route in create_router(NoAccess(), Limits(), secret=None).routes}


def is_route(path: str) -> bool:
    return any(re.fullmatch(re.sub(r"\\{.*?\\}", "[^/]+", re.escape(route)), path) for route in routes())


def setting_names() -> set[str]:
    """Of the environment, also those of files with secrets."""
    return {f"{PREFIX}{name}" for name in SETTINGS} | {f"{PREFIX}{name}{FILE}" for name in SECRETS}


def require_command(words: list[str]) -> None:
    """Words behind `tidepool`: each is a command, or an option of the last one."""
    command: click.Command = main
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        inner = command.get_command(click.Context(command), words[0])
        assert inner is not None, words
        command, words = inner, words[1:]
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= {name for option in command.params for name in option.opts}, (
        words
    )


def options(command: click.Command) -> set[str]:
    """Of a command and all below it."""
    found = {name for option in command.params for name in option.opts}
    if isinstance(command, click.Group):
        inner = [command.get_command(click.Context(command), name) for name in command.list_commands(click.Context(command))]
        found.update(*(options(each) for each in inner if each is not None))
    return found
