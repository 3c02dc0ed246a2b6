"""The guides name nothing that is not there: settings, metrics, alerts, routes, options, exit codes, files, sections."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.boot import exits
from service.cli import EXIT_FAILED, EXIT_PROBLEMS, EXIT_SETTINGS, main
from service.engine import layout, store
from snapshots import log, manifest, mark, paths, prefix, s3_errors
from tests.guides import CLOUD, DATA, LANGUAGES, Page, anchor, page, pages, table
from tests.infra.ours import is_route, options, require_command, setting_names
from tests.metric_names import metric_names
from tests.project import ROOT, read

ALL = pytest.mark.parametrize("guide", pages(), ids=lambda guide: guide.name)
COMMAND = re.compile(r"\btidepool ((?:serve|snapshot|verify|config|--version)\b[^|;\"'`\n\\)]*)")
NO_ROUTES = {"/data", "/tmp"}
"""What begins with a slash and is a directory."""


@ALL
def test_settings_exist(guide: Page) -> None:
    """Also those in commands."""
    assert set(re.findall(r"ISCC_SEARCH_\w+", guide.text)) <= setting_names()


@ALL
def test_metrics_exist(guide: Page) -> None:
    """By the names that Prometheus sees."""
    assert set(re.findall(r"\btidepool_[a-z_]+", guide.text)) <= metric_names()


@ALL
def test_commands_exist(guide: Page) -> None:
    """Each with its options, wherever it is named; also where it needs a cloud."""
    found = [*(words for code in guide.codes for words in COMMAND.findall(code))]
    found += [words for block in guide.blocks for words in COMMAND.findall(block.text)]
    for words in found:
        require_command(words.split())
    assert set(re.findall(r"`(--[a-z-]+)`", guide.prose)) <= options(main)


@ALL
def test_routes_exist(guide: Page) -> None:
    """Those in commands, and all between backticks."""
    named = [code.split(" ")[-1] for code in guide.codes if re.match(r"(GET |POST |PUT |DELETE )?/", code)]
    named += re.findall(r"http://127\.0\.0\.1:8000(/[^\s'\"]*)", guide.text)
    assert [path for path in set(named) - NO_ROUTES if not is_route(path)] == []


@ALL
def test_links_lead_somewhere(guide: Page) -> None:
    """To a file that is there, and in it to a section."""
    for link in guide.links:
        require_link(ROOT / "docs", guide, link)


def require_link(folder: Path, guide: Page, link: str) -> None:
    if link.startswith("https://"):
        return
    name, _, section = link.partition("#")
    target = (folder / name).resolve() if name else folder / guide.name
    assert target.exists(), link
    assert not section or section in Page(target.name, target.read_text()).anchors, link


def test_readme_leads_to_every_guide() -> None:
    """And each of its links into the guides leads somewhere."""
    readme = Page("README.md", read("README.md"))
    links = [link for link in readme.links if link.startswith("docs/")]
    assert {f"docs/{guide.name}" for guide in pages()} <= set(links)
    for link in links:
        require_link(ROOT, readme, link)


@ALL
def test_blocks_are_run_or_marked(guide: Page) -> None:
    """No language that no test knows, and nothing indented that looks like a command."""
    assert {block.language for block in guide.blocks} <= LANGUAGES
    assert "\n    $ " not in guide.text


@ALL
def test_files_in_cloud_commands_exist(guide: Page) -> None:
    """What is deployed is in the repository."""
    texts = [block.text for block in guide.blocks if block.language == CLOUD] + guide.codes
    found = {path for text in texts for path in re.findall(r"\b(?:infra|tests|service)/[\w./-]+|\bContainerfile\b", text)}
    assert [path for path in found if not (ROOT / path).exists()] == []


def alerts() -> list[tuple[str, str]]:
    """Names, and where their runbooks lead."""
    text = read("infra/prometheus/alerts.yml")
    return list(zip(re.findall(r"- alert: (\w+)", text), re.findall(r"runbook: (\S+)", text), strict=True))


def test_operate_is_read_at_night() -> None:
    """Two printed pages."""
    lines = [line for line in page("operate.md").text.splitlines() if line]
    assert len(lines) <= 115
    assert max(map(len, lines)) <= 150


def test_every_alert_has_its_section() -> None:
    """The runbook leads to a section that names the alert; no section names one that is not there."""
    operate = page("operate.md")
    for name, runbook in alerts():
        file, _, section = runbook.partition("#")
        assert file == "docs/operate.md"
        assert f"`{name}`" in operate.section(section)
    assert set(re.findall(r"`(Tidepool\w+)`", operate.prose)) == {name for name, _ in alerts()}


def test_alarms_lead_to_their_sections() -> None:
    """Those of CloudWatch, which have no links: by the words of the heading."""
    sections = re.findall(r'docs/operate\.md, "([^"]+)"', read("infra/ecs/template.yaml"))
    assert [anchor(words) for words in sections] == ["slow-start", "crash-loop", "fenced"]
    assert {anchor(words) for words in sections} <= set(page("operate.md").anchors)


def test_every_exit_code_is_told() -> None:
    """Those of the code, and no others."""
    codes = {0, EXIT_FAILED, EXIT_SETTINGS, EXIT_PROBLEMS, exits.EXIT_FATAL, exits.EXIT_DAMAGED, *exits.SNAPSHOT_EXITS.values()}
    assert [int(row[0]) for row in table(page("operate.md").section("exit-codes")) if row[0].isdigit()] == sorted(codes)


def literals() -> Iterator[str]:
    """Every text in the code, also the pieces between the values of a message."""
    for file in (*(ROOT / "service").rglob("*.py"), *(ROOT / "snapshots").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


@pytest.mark.parametrize(("name", "section"), [("operate.md", "log-lines"), ("recovery.md", "when-a-start-asks-you")])
def test_messages_are_those_of_the_code(name: str, section: str) -> None:
    """The first column of the tables of messages."""
    there = list(literals())
    messages = [code for row in table(page(name).section(section)) for code in re.findall(r"`([^`]+)`", row[0])]
    assert len(messages) > 5
    assert [each for each in messages if each != "message" and not any(each in text for text in there)] == []


def test_words_of_being_fenced_are_those_of_the_code() -> None:
    """By which people tell it from other ends, and so does the alarm of CloudWatch."""
    words = re.findall(r"`(?!tidepool )([a-z][a-z ]+ [a-z ]+)`", page("operate.md").section("fenced"))
    there = list(literals())
    assert len(words) == 3
    assert words == re.findall(r'\?"([a-z ]+)"', read("infra/ecs/template.yaml"))
    assert [each for each in words if not any(each in text for text in there)] == []


GRACES = {
    "Fly.io": ("infra/fly/fly.toml", r"kill_timeout = (\d+)", r'ISCC_SEARCH_DRAIN_{} = "(\d+)"'),
    "ECS": ("infra/ecs/template.yaml", r"StopTimeout: (\d+)", r'ISCC_SEARCH_DRAIN_{}, Value: "(\d+)"'),
    "Kubernetes": ("infra/kubernetes/tidepool.yaml", r"terminationGracePeriodSeconds: (\d+)", r'ISCC_SEARCH_DRAIN_{}: "(\d+)"'),
    "Compose": ("infra/compose/compose.yaml", r"stop_grace_period: (\d+)s", r'ISCC_SEARCH_DRAIN_{}: "(\d+)"'),
}


@pytest.mark.parametrize(
    ("name", "links"),
    [
        (
            "deploy.md",
            {"../bench/README.md#sizing", "../infra/haproxy", "../infra/fly", "../infra/ecs", "../infra/kubernetes", "../infra/compose"},
        ),
        ("operate.md", {"../bench/README.md#sizing", "../infra/prometheus/alerts.yml"}),
        ("upgrade.md", {"../CHANGELOG.md"}),
    ],
)
def test_a_guide_leads_to_what_it_relies_on(name: str, links: set[str]) -> None:
    """Numbers to where they were measured, steps to the files that they are about."""
    assert links <= set(page(name).links)


def test_upgrade_names_the_data_of_each_release() -> None:
    """Every archive that the tests open, and no other."""
    there = [*(ROOT / "tests/engine/written").glob("*.tar.xz"), *(ROOT / "tests/fixtures").glob("estate-*.tar.gz")]
    named = [code for code in page("upgrade.md").codes if code.startswith("tests/") and ".tar." in code]
    assert sorted(named) == sorted(str(path.relative_to(ROOT)) for path in there)


def test_graces_are_those_of_the_files() -> None:
    """What the platform waits, the budget in it, and the part of that for load balancers (0 where nothing is said)."""
    rows = {row[0]: row[1:] for row in table(page("deploy.md").section("stopping"))}
    for platform, (file, wait, part) in GRACES.items():
        patterns = (wait, part.format("SECONDS"), part.format("GRACE_SECONDS"))
        told = [re.findall(r"` (\d+)", rows[platform][0])[0], *rows[platform][1:]]
        assert told == [(re.findall(pattern, read(file)) or ["0"])[0] for pattern in patterns], platform


def test_what_is_changed_stands_in_the_files() -> None:
    """The table of the three values names keys that are there."""
    files = {1: "infra/fly/fly.toml", 2: "infra/ecs/template.yaml", 3: "infra/kubernetes/tidepool.yaml"}
    for row in table(page("deploy.md").section("what-to-change")):
        for column, file in files.items():
            for code in re.findall(r"`([\w]+)`", row[column]):
                assert re.search(rf"\b{code}\b", read(file)), (file, code)


def test_rights_are_those_that_the_code_asks_for() -> None:
    """The policy has what the hint for a refusal names, and the ECS template has it too."""
    (block,) = (block for block in page("security.md").blocks if block.language == DATA)
    found = {action for each in json.loads(block.text)["Statement"] for action in [each["Action"]] if isinstance(action, str)}
    found |= {action for each in json.loads(block.text)["Statement"] if isinstance(each["Action"], list) for action in each["Action"]}
    assert found == set(re.findall(r"s3:\w+", s3_errors.POLICY))
    assert found <= set(re.findall(r"s3:\w+", read("infra/ecs/template.yaml")))


def test_formats_are_those_of_the_code() -> None:
    """Numbers and names."""
    rows = [row[1] for row in table(page("upgrade.md").section("format-versions"))][1:]
    assert rows == [
        str(layout.FORMAT),
        f"{store.LMDB_ENGINE}, with the machine's pages",
        str(mark.FORMAT),
        str(prefix.LAYOUT),
        str(manifest.FORMAT),
        f"`{log.MAGIC.decode()}`",
    ]
    assert paths.FORMAT in page("upgrade.md").text


def test_anchors_are_made_as_on_github() -> None:
    assert [anchor(title) for title in ("CPU high", "To a moment of the past", "What is `there`?")] == [
        "cpu-high",
        "to-a-moment-of-the-past",
        "what-is-there",
    ]
