"""The settings as a JSON Schema: `infra/settings.schema.json`, for whoever writes variables into a deployment file.

It describes an environment: names and texts. Where it can say less than the code it lets more pass: numbers with a point, origins,
networks and addresses are only looked at by the code, and a region may also stand in `~/.aws/config`.
"""

from __future__ import annotations

import msgspec

from service.configuration.kinds import Schema
from service.configuration.rules import ONE_OF_BOTH, RULES
from service.configuration.table import FILE, PREFIX, SECRETS, SETTINGS, WITHOUT_MEANING, Setting


def schema() -> Schema:
    """The document."""
    files = {PREFIX + name + FILE: {"type": "string", "minLength": 1, "description": f"file that holds {PREFIX}{name}"} for name in SECRETS}
    theirs = {PREFIX + name: {"description": "of iscc-search; without meaning here"} for name in sorted(WITHOUT_MEANING - SETTINGS.keys())}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Settings of Tidepool",
        "description": "The environment of the service. Made by `tidepool config --schema`; not to be edited.",
        "type": "object",
        "properties": {**{PREFIX + name: _property(setting) for name, setting in SETTINGS.items()}, **files, **theirs},
        "patternProperties": {f"^(?!{PREFIX})": True},
        "additionalProperties": False,
        "allOf": [*(rule.schema for rule in RULES), *ONE_OF_BOTH],
    }


def text() -> str:
    """As the file has it."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _property(setting: Setting) -> Schema:
    found: Schema = {"type": "string", "description": setting.description, **setting.kind.schema}
    if setting.default is not None:
        found["default"] = setting.default
    return found
