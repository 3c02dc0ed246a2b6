"""What is installed: one version, exact constraints, a wheel with the two packages, nothing that ties the project to a machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

import service
from tests.project import ROOT, kept_files, pyproject, read

BIN = Path(sys.executable).parent
NOT_INSTALLED = {".c", ".md"}  # suffixes of files beside the modules that only developers read
# The brackets keep this line from being what it looks for. A home of one letter, /home/x, is an example.
FOREIGN = re.compile(
    r"py[p]i\.(org|python)|python[h]osted\.org|npm[j]s\.(org|com)|inde[x]-url|fin[d]-links|(?<![\w.~])/((home|Users)/\w{2}|roo[t]/\w)"
)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source archive, made from the kept files alone, and the wheel that is built from it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("out")
    for path in kept_files():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(out)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (archive,) = out.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out)]
    subprocess.run([*pip, str(archive)], check=True, capture_output=True)
    (wheel,) = out.glob("*.whl")
    return archive, wheel


def package_files() -> set[str]:
    names = (path.relative_to(ROOT).as_posix() for path in kept_files())
    return {name for name in names if name.startswith(("service/", "snapshots/"))}


def test_the_source_archive_has_all_that_a_build_needs(archives: tuple[Path, Path]) -> None:
    """Every file of the packages that is not a document, and what pyproject.toml names, is in the source archive."""
    with tarfile.open(archives[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {name for name in package_files() if not name.endswith(".md")}
    assert needed | {"pyproject.toml", "setup.py", "README.md", "LICENSE"} <= names


def test_the_wheel_has_the_packages_and_nothing_else(archives: tuple[Path, Path]) -> None:
    """The wheel holds the modules and data of the two packages, at most what is compiled besides, and its own description."""
    with zipfile.ZipFile(archives[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    compiled = {"service/engine/_scan.abi3.so", "service/api/_chunks.abi3.so"}
    assert names - compiled == {name for name in package_files() if Path(name).suffix not in NOT_INSTALLED}


def test_the_wheel_says_version_licence_and_command(archives: tuple[Path, Path]) -> None:
    """The description in the wheel has the package's version, the SPDX name of the licence with its text, and the command."""
    folder = f"tidepool-{service.__version__}.dist-info"
    with zipfile.ZipFile(archives[1]) as wheel:
        description = wheel.read(f"{folder}/METADATA").decode().splitlines()
        assert wheel.read(f"{folder}/licenses/LICENSE").decode() == read("LICENSE")
        assert "tidepool = service.cli:main" in wheel.read(f"{folder}/entry_points.txt").decode()
    assert f"Version: {service.__version__}" in description
    assert "License-Expression: Apache-2.0" in description


def test_every_package_directory_is_named() -> None:
    """Each directory with modules below the two packages stands in pyproject.toml: none is left out of the wheel."""
    found = {Path(name).parent.as_posix().replace("/", ".") for name in package_files() if name.endswith(".py")}
    assert found == set(pyproject()["tool"]["setuptools"]["packages"])


def test_one_version() -> None:
    """The changelog's newest entry is the package's version, and pyproject.toml takes it from there."""
    entries = re.findall(r"^## \[([^\]]+)\]", read("CHANGELOG.md"), re.MULTILINE)
    assert entries[0] == service.__version__
    assert pyproject()["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "service.__version__"}


def test_licence_is_apache_2() -> None:
    """LICENSE is the text that the SPDX name in pyproject.toml stands for."""
    assert pyproject()["project"]["license"] == "Apache-2.0"
    assert re.match(r"\s+Apache License\s+Version 2\.0, January 2004", read("LICENSE"))


def pins() -> dict[NormalizedName, Version]:
    """The constraints. Fails on a line that is anything but one name with one version."""
    found: dict[NormalizedName, Version] = {}
    for line in read("constraints.txt").splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9a-z.]+)", line)
        assert match, line
        name = canonicalize_name(match[1])
        assert name not in found
        found[name] = Version(match[2])
    return found


def requirements() -> list[Requirement]:
    project = pyproject()["project"]
    lines = [*project["dependencies"], *(line for extra in project["optional-dependencies"].values() for line in extra)]
    return [Requirement(line) for line in lines]


def closure(wanted: Iterable[Requirement]) -> Iterator[Requirement]:
    """What is wanted and, of the packages that are installed, what they want in turn."""
    seen: set[tuple[str, frozenset[str]]] = set()
    open_ones = list(wanted)
    while open_ones:
        requirement = open_ones.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        yield requirement
        if any(metadata.distributions(name=requirement.name)):
            open_ones.extend(needs(requirement))


def needs(requirement: Requirement) -> Iterator[Requirement]:
    for line in metadata.requires(requirement.name) or []:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ["", *requirement.extras]):
            yield need


def test_constraints_cover_every_dependency() -> None:
    """Whatever the service, its tests and its benchmarks pull in has an exact version that suits who asks for it."""
    exact = pins()
    for requirement in closure(requirements()):
        assert canonicalize_name(requirement.name) in exact
        assert requirement.specifier.contains(exact[canonicalize_name(requirement.name)], prereleases=True), requirement


def test_no_file_names_a_registry_or_a_home() -> None:
    """No kept file names a package registry, an option that points to one, or a path below somebody's home."""
    found = []
    for path in kept_files():
        text = path.read_bytes().decode("utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert found == []


def test_ci_script_is_sound() -> None:
    """CI's script can be run, and bash and shellcheck find nothing wrong with it."""
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 == 0o111
    for command in (["bash", "-n"], [str(BIN / "shellcheck")]):
        done = subprocess.run([*command, str(script)], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "")


def test_justfile_is_sound() -> None:
    """The recipes parse, are formatted, and have the names that the documents use."""
    just = str(BIN / "just")
    formatted = subprocess.run([just, "--fmt", "--check", "--unstable"], cwd=ROOT, capture_output=True, text=True)
    assert (formatted.returncode, formatted.stdout) == (0, "")
    listed = subprocess.run([just, "--summary"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = "setup serve fmt check test soak bench bench-large sizing image-test verify"
    assert set(names.split()) <= set(listed.stdout.split())
