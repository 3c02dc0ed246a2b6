"""What the commands of each tool name: files beside them, and resources, parameters, settings and ports of those files.

The tools are not asked: most need an account. Their own words stand here, as far as they are used; those of `aws` come from its models.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Set
from urllib.parse import urlsplit

from tests.infra.amazon import aws
from tests.infra.commands import Said, parts
from tests.infra.files import compose_file, fly_toml, image, kubernetes_objects
from tests.infra.ours import is_route, require_command, setting_names
from tests.project import read

NONE: frozenset[str] = frozenset()
FLY = {
    "apps create": NONE,
    "checks list": NONE,
    "deploy": {"--ha", "-e", "--config"},
    "logs": NONE,
    "machine start": NONE,
    "machine status": NONE,
    "scale count": {"--config"},
    "secrets set": {"--stage", "--config"},
    "ssh console": {"-u", "-C"},
    "storage create": {"--app"},
    "volumes list": {"--config"},
    "volumes destroy": {"--config"},
}
"""Its commands and their options, those of the guides."""
KUBECTL = {
    "apply": {"-f"},
    "create secret generic": {"--from-literal"},
    "delete": {"--ignore-not-found"},
    "describe": NONE,
    "exec": NONE,
    "get": NONE,
    "port-forward": NONE,
    "rollout status": NONE,
    "scale": {"--replicas"},
    "set env": NONE,
}
COMPOSE = {"exec": NONE, "logs": NONE, "ps": {"-a"}, "rm": {"-sf"}, "up": {"-d"}}


def check(said: Said) -> None:
    """Fails where the command names something that is not there, and for a tool that nobody knows."""
    CHECKS[said.words[0]](said, list(said.words[1:]))


def verb(words: list[str], known: Mapping[str, Set[str]]) -> str:
    """The longest command that these words begin with."""
    names = [name for name in known if words[: len(name.split())] == name.split()]
    assert names, words
    return max(names, key=len)


def fly(said: Said, words: list[str]) -> None:
    name = verb(words, FLY)
    plain, options = parts(words[len(name.split()) :], switches={"--stage"})
    assert options.keys() <= FLY[name], said
    if name == "apps create":
        assert plain == [fly_toml()["app"]], said
    assert options.get("--app", [fly_toml()["app"]]) == [fly_toml()["app"]], said
    for assignment in [*options.get("-e", []), *(plain if name == "secrets set" else [])]:
        assert assignment.partition("=")[0] in setting_names(), said
    for file in options.get("--config", []):
        assert (said.folder / file).is_file(), said
    for user in options.get("-u", []):
        assert f" {user} " in next(line for line in read("Containerfile").splitlines() if "useradd" in line), said
    for command in options.get("-C", []):
        ours(said, shlex.split(command))


def kubectl(said: Said, words: list[str]) -> None:
    name = verb(words, KUBECTL)
    rest = words[len(name.split()) :]
    if "--" in rest:
        ours(said, rest[rest.index("--") + 1 :])
        rest = rest[: rest.index("--")]
    plain, options = parts(rest)
    assert options.keys() <= KUBECTL[name], said
    for file in options.get("-f", []):
        assert (said.folder / file).is_file(), said
    there, secrets = in_the_cluster()
    if name == "create secret generic":
        assert set(plain) <= secrets, said
    elif name in ("delete", "describe", "get"):
        assert "/".join(plain) in there, said
    elif name == "port-forward":
        assert plain == ["tidepool-0", str(image().port)], said
    elif name == "exec":
        assert plain == ["tidepool-0"], said
    elif name != "apply":
        assert plain[0] in there, said
    for assignment in [*options.get("--from-literal", []), *(plain[1:] if name == "set env" else [])]:
        assert re.split(r"=|-$", assignment)[0] in setting_names(), said
    assert set(options.get("--replicas", ["1"])) <= {"0", "1"}, said


def in_the_cluster() -> tuple[set[str], set[str]]:
    """What there is once the file was applied, as `kind/name`; and the secrets that it asks for."""
    objects = {(one["kind"].lower(), one["metadata"]["name"]): one for one in kubernetes_objects()}
    spec = objects["statefulset", "tidepool"]["spec"]
    pods = {f"tidepool-{number}" for number in range(spec["replicas"])}
    claims = {f"{one['metadata']['name']}-{pod}" for one in spec["volumeClaimTemplates"] for pod in pods}
    (container,) = spec["template"]["spec"]["containers"]
    secrets = {one["secretRef"]["name"] for one in container["envFrom"] if "secretRef" in one}
    there = {f"{kind}/{name}" for kind, name in objects} | {f"pod/{name}" for name in pods} | {f"pvc/{name}" for name in claims}
    return there, secrets


def docker(said: Said, words: list[str]) -> None:
    project = compose_file()
    if words[:2] == ["volume", "rm"]:
        assert set(words[2:]) <= {f"{project['name']}_{volume}" for volume in project["volumes"]}, said
        return
    assert words[0] == "compose", said
    name, *rest = words[1:]
    if name == "exec":
        ours(said, rest[1:])
        rest = rest[:1]
    plain, options = parts(rest, switches={"-sf", "-d", "-a"})
    assert options.keys() <= COMPOSE[name], said
    assert set(plain) <= project["services"].keys(), said


def curl(said: Said, words: list[str]) -> None:
    for word in words:
        if "://" in word:
            assert is_route(urlsplit(word).path), said


def ours(said: Said, words: list[str]) -> None:
    assert words[0] == "tidepool", said
    require_command(words[1:])


def echo(said: Said, words: list[str]) -> None:
    """A variable of the file `.env`, for which the file beside it asks."""
    asked = set(re.findall(r"\$\{(\w+)", "".join(path.read_text("utf-8") for path in said.folder.glob("*.yaml"))))
    assert words[0].partition("=")[0] in asked, said
    assert words[2] == ".env", said


def files(said: Said, words: list[str]) -> None:
    """Each word that looks like a file is one."""
    for word in words:
        if re.fullmatch(r"[\w-]+\.(ya?ml|cfg|json)", word):
            assert (said.folder / word).is_file(), said


def secret(said: Said, words: list[str]) -> None:
    assert words[:2] == ["rand", "-hex"], said


CHECKS: dict[str, Callable[[Said, list[str]], None]] = {
    "aws": aws,
    "curl": curl,
    "docker": docker,
    "echo": echo,
    "fly": fly,
    "haproxy": files,
    "kubectl": kubectl,
    "openssl": secret,
    "promtool": files,
    "tidepool": lambda _, words: require_command(words),
}
