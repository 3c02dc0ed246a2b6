"""Commands of `aws` against the models that botocore brings, and against the template beside them."""

from __future__ import annotations

import json
from typing import Any

import boto3  # type: ignore[import-untyped]  # has no types
from botocore import xform_name  # type: ignore[import-untyped]  # has no types
from botocore.validate import ParamValidator  # type: ignore[import-untyped]  # has no types

from tests.infra.commands import Said, parts
from tests.infra.files import ecs_template
from tests.project import ROOT

DEPLOY = {"--template-file", "--stack-name", "--capabilities", "--parameter-overrides"}
"""Of the one command here that the models do not have: the tool makes it of others."""
GLOBAL = {"--query", "--output", "--region"}
NAMES = {"s3api": "s3"}
"""Services that the tool calls otherwise."""


def aws(said: Said, words: list[str]) -> None:
    service, name, *rest = words
    if (service, name) == ("cloudformation", "deploy"):
        deploy(said, rest)
        return
    client = boto3.client(NAMES.get(service, service), region_name="eu-central-1", aws_access_key_id="-", aws_secret_access_key="-")
    if name == "wait":
        waiter = rest.pop(0).replace("-", "_")
        assert waiter in client.waiter_names, said
        name = xform_name(client.get_waiter(waiter).config.operation, "-")
    operations = {xform_name(each, "-"): each for each in client.meta.service_model.operation_names}
    shape = client.meta.service_model.operation_model(operations[name]).input_shape
    members = {option(member): inner for member, inner in shape.members.items()}
    _, given = parts(rest)
    assert given.keys() <= members.keys() | GLOBAL, said
    assert not said.whole or {option(member) for member in shape.required_members} <= given.keys(), said
    for name, values in given.items():
        if values and values[0].startswith("{"):
            assert not faults(json.loads(values[0]), members[name]), said


def option(member: str) -> str:
    return f"--{xform_name(member, '-')}"


def faults(value: object, shape: Any) -> str:
    report: str = ParamValidator().validate(value, shape).generate_report()
    return report


def deploy(said: Said, words: list[str]) -> None:
    """Parameters are those of the template; all that have no default are given where the stack is made."""
    _, options = parts(words)
    assert options.keys() == DEPLOY, said
    (file,) = options["--template-file"]
    assert said.folder / file == ROOT / "infra/ecs/template.yaml", said
    assert options["--capabilities"] == ["CAPABILITY_IAM"], said
    parameters = ecs_template()["Parameters"]
    given = dict(pair.split("=", 1) for pair in options["--parameter-overrides"])
    assert given.keys() <= parameters.keys(), said
    for name, value in given.items():
        assert value in parameters[name].get("AllowedValues", [value]), said
    needed = {name for name, parameter in parameters.items() if "Default" not in parameter}
    assert needed <= given.keys() or given.keys() == {"FirstStart"}, said
