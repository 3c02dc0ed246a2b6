"""The Grafana dashboard: every expression asks for metrics that exist, and a real Prometheus that scrapes the service has data for each.

Grafana itself is not run: what its panels look like nobody has tested.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.infra.files import INFRA
from tests.infra.worked import ANY_JOB, Load, ask, names_in, names_of, needs_prometheus, prometheus, worked
from tests.system.server import HOST, wait_until

RATE_S = 10
"""Over how much the test takes rates; Grafana chooses it from the width of the picture."""
COLUMNS = 24


def test_every_metric_on_the_dashboard_is_one_of_the_service(tmp_path: Path) -> None:
    """A panel about a metric that does not exist stays empty, and looks like a quiet day."""
    with worked(tmp_path) as server:
        known = names_of(server)
    for expression in expressions():
        assert names_in(expression), expression
        assert names_in(expression) - known == set(), expression


@needs_prometheus
def test_every_panel_shows_something(tmp_path: Path) -> None:
    """The service under load, scraped for some seconds: no expression is without samples, so labels fit on both sides of each division."""
    with worked(tmp_path) as server, Load(server.port), prometheus(tmp_path, f"{HOST}:{server.port}") as url:
        for expression in expressions():
            wait_until(lambda expression=expression: bool(ask(url, filled(expression))), 30, filled(expression))  # type: ignore[misc]  # bound


def test_panels_have_names_of_their_own_and_places() -> None:
    """No two share an id or a place, none leaves the grid, every graph says its unit and what its lines are."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= COLUMNS
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"]
            assert all(target["legendFormat"] for target in panel["targets"])
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_nothing_is_bound_to_one_installation() -> None:
    """The data source, the job and the instance are variables."""
    variables = {one["name"] for one in dashboard()["templating"]["list"]}
    assert variables == {"datasource", "job", "instance"}
    for panel in panels():
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
    for expression in expressions():
        assert 'job="$job"' in expression
        assert 'instance=~"$instance"' in expression


def filled(expression: str) -> str:
    """With what Grafana puts in for its variables."""
    return expression.replace("$__rate_interval", f"{RATE_S}s").replace("$job", ANY_JOB).replace("$instance", ".*")


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", ())]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dashboard()["panels"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((INFRA / "grafana/dashboard.json").read_text("utf-8"))
    return found
