"""The alert rules: accepted, their unit tests hold, every metric in them is one that the service has, every runbook is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from service.settings import SETTINGS
from tests.infra.files import INFRA, alert_rules
from tests.infra.worked import names_in, names_of, needs_prometheus, worked
from tests.project import ROOT

ALERTS = INFRA / "prometheus"
NOT_OURS = {"up"}
"""What Prometheus itself says of each target."""


@needs_prometheus
def test_prometheus_accepts_the_rules() -> None:
    assert "FAILED" not in promtool("check", "rules", "alerts.yml")


@needs_prometheus
def test_each_alert_fires_when_it_should_and_not_before() -> None:
    """The cases stand beside the rules, for everybody who has promtool."""
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_each_alert_has_a_case_in_which_it_fires() -> None:
    cases = (ALERTS / "alerts_test.yml").read_text("utf-8")
    fires = set(re.findall(r'alertname="(\w+)"', cases)) | set(re.findall(r"alertname: (\w+)", cases))
    assert fires == {rule["alert"] for rule in alert_rules()}


def test_every_metric_in_a_rule_is_one_of_the_service(tmp_path: Path) -> None:
    """A rule about a metric that does not exist never fires, and nobody notices."""
    with worked(tmp_path) as server:
        known = names_of(server) | NOT_OURS
    for rule in alert_rules():
        assert names_in(rule["expr"]), rule["alert"]
        assert names_in(rule["expr"]) - known == set(), rule["alert"]


def test_every_alert_leads_to_a_paragraph() -> None:
    """Severity, a summary that names the instance, and a heading of the guide."""
    guide = (ROOT / "docs/operate.md").read_text("utf-8")
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", guide, re.MULTILINE)}
    for rule in alert_rules():
        path, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert path == "docs/operate.md"
        assert anchor in anchors, rule["alert"]
        assert "$labels.instance" in rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_numbers_in_the_rules_are_those_of_the_settings() -> None:
    """The room below which writes are refused."""
    rules = {rule["alert"]: rule["expr"] for rule in alert_rules()}
    assert f"< {SETTINGS['DISK_FREE_MIN_BYTES'].default}" in rules["TidepoolDiskFull"]
    assert f"* {SETTINGS['DISK_FREE_MIN_BYTES'].default}" in rules["TidepoolDiskLow"]


def promtool(*words: str) -> str:
    done = subprocess.run(["promtool", *words], cwd=ALERTS, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
