"""The commands in the READMEs of `infra/`, and those of the guides that need a cloud: what they name is there, and a shell reads them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guides import CLOUD, RUN, Page
from tests.infra.commands import Said, blocks, said, split
from tests.infra.files import INFRA
from tests.infra.tools import CHECKS, check
from tests.project import ROOT

READMES = sorted(INFRA.glob("*/README.md"))
RUN_HERE = {"haproxy": "haproxy", "promtool": "prometheus"}
"""Tools that need no account, and the package of Debian that has each."""
DEPLOY = "aws cloudformation deploy --template-file template.yaml --stack-name x --capabilities CAPABILITY_IAM --parameter-overrides {}"
SHELLCHECK = Path(sys.executable).parent / "shellcheck"


def test_every_platform_has_commands() -> None:
    """Those that are looked for are found."""
    assert {one.words[0] for one in said()} == CHECKS.keys()
    assert {one.place.parent.name for one in said() if one.whole} >= {"compose", "ecs", "fly", "kubernetes", "prometheus"}


@pytest.mark.parametrize("one", said(), ids=str)
def test_what_a_command_names_is_there(one: Said) -> None:
    check(one)


@pytest.mark.parametrize(
    ("folder", "wrong"),
    [
        ("compose", "docker compose logs tidepol"),
        ("compose", "docker volume rm data"),
        ("compose", "echo S3_SECRT=1 >> .env"),
        ("ecs", "aws ecs update-service --force-deployment"),
        ("ecs", "aws ecs wait service-stable"),
        ("ecs", DEPLOY.format("Vpc=1 Subnets=2 CertificateArn=3")),
        ("ecs", DEPLOY.format("FirstStart=never")),
        ("fly", "fly deploy --ha=false -e ISCC_SEARCH_SNAPSHOT_MISING=create"),
        ("fly", "fly storage create --app another"),
        ("fly", "fly volume delete"),
        ("haproxy", "haproxy -c -f other.cfg"),
        ("kubernetes", "kubectl delete pvc data-tidepool"),
        ("kubernetes", "kubectl exec tidepool-0 -- tidepool snapshot lst"),
        ("kubernetes", "kubectl set env statefulset/tidepool ISCC_SEARCH_SNAPSHOT_MISING-"),
        ("kubernetes", "kubectl port-forward tidepool-0 80"),
        ("kubernetes", "curl http://127.0.0.1:8000/ready"),
    ],
)
def test_a_wrong_name_is_found(folder: str, wrong: str) -> None:
    (one,) = split(INFRA / folder / "README.md", wrong, whole=True)
    with pytest.raises((AssertionError, KeyError)):
        check(one)


@pytest.mark.parametrize("one", [one for one in said() if one.words[0] in RUN_HERE and "query" not in one.words], ids=str)
def test_what_needs_no_account_runs(one: Said) -> None:
    """In the folder of the README, as it stands."""
    if shutil.which(one.words[0]) is None:
        pytest.skip(f"needs Debian's {RUN_HERE[one.words[0]]}")
    done = subprocess.run(one.words, cwd=one.folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*READMES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_shell_reads_what_is_to_be_pasted(path: Path) -> None:
    """Quotes are closed, variables are set: shellcheck has nothing to say."""
    text = "".join(block.text for block in blocks(path, (RUN, CLOUD)))
    command: list[str | Path] = [SHELLCHECK, "--shell=bash", "--severity=warning", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", READMES, ids=lambda path: path.parent.name)
def test_files_and_links_are_there(path: Path) -> None:
    """What a README calls by its path or links to, and in it the section."""
    page = Page(path.name, path.read_text("utf-8"))
    for code in page.codes:
        if code.startswith(("infra/", "docs/", "tests/", "bench/")):
            assert (ROOT / code).exists(), code
    for link in page.links:
        name, _, section = link.partition("#")
        if not link.startswith("https://"):
            target = path.parent / name
            assert target.exists(), link
            assert not section or section in Page(target.name, target.read_text("utf-8")).anchors, link
