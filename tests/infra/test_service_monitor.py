"""The ServiceMonitor. Its type is the Prometheus operator's, for which no light package has a schema: what it may say stands here."""

from __future__ import annotations

import re

from tests.infra.files import alert_rules, kubernetes_objects, service_monitor
from tests.infra.ours import routes

KNOWN = {
    "spec": {"selector", "endpoints"},
    "endpoint": {"port", "path", "interval"},
}
"""Of what the operator's reference has, all that we use. Whoever needs more looks its name up there first: a cluster drops unknown ones."""


def test_it_says_only_what_the_operator_knows() -> None:
    said = service_monitor()
    assert (said["apiVersion"], said["kind"]) == ("monitoring.coreos.com/v1", "ServiceMonitor")
    assert said.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert said["spec"].keys() == KNOWN["spec"]
    assert said["spec"]["selector"].keys() == {"matchLabels"}
    for endpoint in said["spec"]["endpoints"]:
        assert endpoint.keys() <= KNOWN["endpoint"]
        assert re.fullmatch(r"\d+(ms|s|m|h)", endpoint["interval"])


def test_it_finds_the_service() -> None:
    """By label, in the same namespace, by the name of its port, at a path that is there; nothing between them refuses."""
    said = {one["kind"]: one for one in kubernetes_objects()}
    monitor, service = service_monitor(), said["Service"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"].get("namespace") == service["metadata"].get("namespace")
    (port,) = [port for port in service["spec"]["ports"] if port["name"] == endpoint["port"]]
    (container,) = said["StatefulSet"]["spec"]["template"]["spec"]["containers"]
    (opened,) = [one["containerPort"] for one in container["ports"] if one["name"] == port["targetPort"]]
    assert opened in {one["port"] for rule in said["NetworkPolicy"]["spec"]["ingress"] for one in rule["ports"]}
    assert endpoint["path"] in routes()


def test_its_job_is_the_one_of_the_alerts() -> None:
    """The operator calls a job after the Service."""
    (service,) = [one for one in kubernetes_objects() if one["kind"] == "Service"]
    assert {job for rule in alert_rules() for job in re.findall(r'job="(\w+)"', rule["expr"])} == {service["metadata"]["name"]}
