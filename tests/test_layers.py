"""The dependency rules: who may import what."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project import ROOT

STANDARD = sys.stdlib_module_names
OURS = ("service", "snapshots")
ENGINE = {"lmdb", "usearch", "numpy", "msgspec", "service.engine"}
CONFIGURATION = {"msgspec", "service.configuration", "service.machine"}
SNAPSHOTS = {"msgspec", "boto3", "botocore", "urllib3", "snapshots"}
API = {
    "litestar",
    "msgspec",
    "redis",
    "service",
    "service.api",
    "service.engine",
    "service.lanes",
    "service.logs",
    "service.meter",
}
LOWER = {
    "service.settings": {"msgspec", "service.configuration"},
    "service.logs": {"msgspec"},
    "service.machine": set(),
    "service.meter": {"service.telemetry"},
    "service.telemetry": {"prometheus_client", "service.machine"},
    "service.lanes": {"service.engine"},
}
ONE_IMPORTER = {
    "lmdb": {"service.engine.header", "service.engine.store", "service.engine.walk"},
    "granian": {"service.serve"},
    "uvloop": {"service.serve"},
    "boto3": {"snapshots.s3_client"},
    "botocore": {"snapshots.s3_client"},
    "click": {"service.cli", "service.snapshot_cli"},
    "apscheduler": {"service.boot.jobs"},
    "redis": {"service.api.sharedstore"},
    "prometheus_client": {"service.telemetry"},
    "opentelemetry": {"service.otel"},
    "sentry_sdk": {"service.sentry"},
}


def modules() -> list[tuple[str, Path]]:
    paths = sorted(path for part in OURS for path in (ROOT / part).rglob("*.py"))
    return [(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path) for path in paths]


def imports(path: Path) -> Iterator[str]:
    """Every imported module; of `from a import b` both `a` and, for our packages, `a.b`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            package = node.module in ("service", "service.api", "service.engine")
            yield from (f"{node.module}.{alias.name}" if package else node.module for alias in node.names)


def outside(name: str, allowed: set[str]) -> bool:
    if name.partition(".")[0] in STANDARD or name == "service.__version__":
        return False
    return not any(name == known or (known != "service" and name.startswith(known + ".")) for known in allowed)


def importers(wanted: str) -> set[str]:
    return {module for module, path in modules() if any(name.partition(".")[0] == wanted for name in imports(path))}


@pytest.mark.parametrize(
    ("part", "allowed"),
    [("service.engine", ENGINE), ("service.api", API), ("snapshots", SNAPSHOTS), ("service.configuration", CONFIGURATION)],
)
def test_a_layer_imports_only_what_stands_below_it(part: str, allowed: set[str]) -> None:
    """Imports point inward."""
    wrong = [
        (module, name)
        for module, path in modules()
        if module == part or module.startswith(part + ".")
        for name in imports(path)
        if outside(name, allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize(("module", "allowed"), LOWER.items())
def test_lower_modules_know_nothing_above(module: str, allowed: set[str]) -> None:
    """Settings, logs, metrics and lanes can be used without the rest."""
    path = ROOT / (module.replace(".", "/") + ".py")
    assert [name for name in imports(path) if outside(name, allowed)] == []


def test_the_engine_is_synchronous() -> None:
    """No event loop below the lanes."""
    assert [module for module, path in modules() if module.startswith("service.engine") and "asyncio" in set(imports(path))] == []


@pytest.mark.parametrize(("library", "allowed"), ONE_IMPORTER.items())
def test_an_outside_library_has_one_importer_or_two(library: str, allowed: set[str]) -> None:
    """Its errors and oddities are translated there."""
    assert importers(library) <= allowed


def test_the_environment_is_read_in_one_place() -> None:
    """`os.environ` and `os.getenv` stand in `settings` alone; child processes of the engine are given what they need."""
    readers = {module for module, path in modules() if "os.environ" in path.read_text("utf-8") or "getenv" in path.read_text("utf-8")}
    assert readers == {"service.settings"}


def test_only_boot_knows_engine_and_snapshots() -> None:
    """The two libraries meet in one package."""
    both = {
        module for module, path in modules() if module.startswith("service") and any(name.startswith("snapshots") for name in imports(path))
    }
    assert {module for module in both if not module.startswith("service.boot.")} == set()
