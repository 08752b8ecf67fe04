"""Who may speak to whom: the policies are evaluated for every pair of pods."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from tests.deployment.files import Document, Process, kubernetes_processes, of_kind, rendered

from craft.infra.settings.settings import Settings

SETTINGS = Settings()
WORKERS = ("datasets-worker", "inference-worker", "scoring-worker", "training-worker")
NEEDED = {
    ("gateway", "datasets-api", SETTINGS.datasets.port),
    *((worker, "coordinator", SETTINGS.coordinator.port) for worker in WORKERS),
    *((worker, "valkey", 6379) for worker in (*WORKERS, "coordinator")),
    *((owner, "postgres", 5432) for owner in ("gateway", "coordinator", "migrate")),
}
TO_THE_MODEL_SERVER = {
    (caller, "model-server", SETTINGS.model_server.port)
    for caller in ("gateway", "inference-worker", "training-worker")
}
PORTS = sorted({port for _, _, port in NEEDED} | {8080, 8082, 8083, 8084, SETTINGS.model_server.port})


def chosen(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector matches."""
    expressions = selector.get("matchExpressions", ())
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def pods(overlay: str) -> dict[str, dict[str, str]]:
    """The labels of each pod by its workload's name."""
    return {process.name: dict(process.labels) for process in kubernetes_processes(rendered(overlay))}


def open_for(policies: list[Document], direction: str, own: dict[str, str], other: dict[str, str], port: int) -> bool:
    """Whether some policy on `own` lets traffic with the pod `other` of the same namespace through."""
    peer = "from" if direction == "Ingress" else "to"
    for policy in policies:
        spec = policy["spec"]
        if direction in spec["policyTypes"] and chosen(spec["podSelector"], own):
            for rule in spec.get(direction.lower(), ()):
                ports = {entry["port"] for entry in rule["ports"]}
                peers = [p for p in rule[peer] if "podSelector" in p and "namespaceSelector" not in p]
                if port in ports and any(chosen(p["podSelector"], other) for p in peers):
                    return True
    return False


@pytest.mark.parametrize(("overlay", "needed"), [("local", NEEDED), ("one-gpu", NEEDED | TO_THE_MODEL_SERVER)])
def test_exactly_the_needed_flows_are_open(overlay: str, needed: set[tuple[str, str, int]]) -> None:
    policies = of_kind(rendered(overlay), "NetworkPolicy")
    found = {
        (source, target, port)
        for source, source_labels in pods(overlay).items()
        for target, target_labels in pods(overlay).items()
        for port in PORTS
        if open_for(policies, "Egress", source_labels, target_labels, port)
        and open_for(policies, "Ingress", target_labels, source_labels, port)
    }
    assert found == needed


def test_everything_else_is_closed(manifest_set: tuple[Document, ...]) -> None:
    closed = [p for p in of_kind(manifest_set, "NetworkPolicy") if p["metadata"]["name"] == "default-deny"]
    assert [policy["spec"] for policy in closed] == [{"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}]


def test_every_policy_concerns_a_pod(manifest_set: tuple[Document, ...]) -> None:
    labels = [dict(process.labels) for process in kubernetes_processes(manifest_set)]
    for policy in of_kind(manifest_set, "NetworkPolicy"):
        assert any(chosen(policy["spec"]["podSelector"], own) for own in labels), policy["metadata"]["name"]


def test_every_rule_names_its_ports_and_peers(manifest_set: tuple[Document, ...]) -> None:
    for policy in of_kind(manifest_set, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            assert rule["ports"]
            assert all(peer.get("podSelector") or peer.get("namespaceSelector") for peer in rule["from"])
        for rule in policy["spec"].get("egress", ()):
            assert rule["ports"]
            assert rule["to"]


def test_other_namespaces_reach_what_they_are_labelled_for(manifest_set: tuple[Document, ...]) -> None:
    reached: dict[str, set[int]] = {}
    for policy in of_kind(manifest_set, "NetworkPolicy"):
        for rule in policy["spec"].get("ingress", ()):
            for peer in rule["from"]:
                for label in peer.get("namespaceSelector", {}).get("matchLabels", {}):
                    reached.setdefault(label, set()).update(entry["port"] for entry in rule["ports"])
    assert reached == {
        "craft-gateway-clients": {8080},
        "craft-service-clients": {8081, 8082, 8083, 8084},
        "craft-metrics-clients": {8085},
    }


@pytest.mark.parametrize("store", ["uses-database", "uses-broker"])
def test_a_team_reaches_its_own_stores(store: str) -> None:
    policies = {p["metadata"]["name"]: p["spec"] for p in of_kind(rendered("gpu"), "NetworkPolicy")}
    (rule,) = policies[store]["egress"]
    assert policies[store]["podSelector"] == {"matchLabels": {store: "true"}}
    assert [entry["port"] for entry in rule["ports"]] == [5432 if store == "uses-database" else 6379]
    assert all(peer["ipBlock"]["cidr"] != "0.0.0.0/0" for peer in rule["to"])


def test_who_has_the_url_has_the_way() -> None:
    """A pod's labels open the network to exactly the stores whose URL its environment holds."""
    ways = {"uses-database": "CRAFT_DATABASE_URL", "uses-broker": "CRAFT_BROKER_URL"}
    processes: list[Process] = [p for p in kubernetes_processes(rendered("gpu")) if p.module is not None]
    for process in processes:
        for label, variable in ways.items():
            assert (label in process.labels) == (variable in process.environment), process.name


def test_webhooks_reach_public_addresses_and_nothing_inside(manifest_set: tuple[Document, ...]) -> None:
    (policy,) = [p["spec"] for p in of_kind(manifest_set, "NetworkPolicy") if p["metadata"]["name"] == "webhooks"]
    assert policy["podSelector"] == {"matchLabels": {"app.kubernetes.io/name": "coordinator"}}
    (rule,) = policy["egress"]
    assert [entry["port"] for entry in rule["ports"]] == [443]
    closed = {network for peer in rule["to"] for network in peer["ipBlock"]["except"]}
    for inside in (
        "10.1.2.3",
        "172.20.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "fd00:ec2::254",
        "fe80::1",
    ):
        address = ip_address(inside)
        assert any(address in network for network in map(ip_network, closed) if network.version == address.version)
