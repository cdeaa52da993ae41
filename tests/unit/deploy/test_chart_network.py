"""The chart's NetworkPolicies beside who calls whom in the code."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from services.cli.roster import ROSTER
from services.settings import Settings
from tests.unit.deploy.rendered import Release, ports_of

REPOSITORY = Path(__file__).resolve().parents[3]
SERVICES = {
    entry.name: int(Settings().services.of(entry.name).address.rpartition(":")[2])
    for entry in ROSTER
    if entry.name != "gateway"
}
PORTS = SERVICES | {"gateway": int(Settings().api.address.rpartition(":")[2])}


def test_the_network_lets_through_what_is_called_and_nothing_else(release: Release) -> None:
    pods = {name.removeprefix("demo-penstock-"): pod for name, pod in release.pods.items()}
    policies = [one["spec"] for one in release.of("NetworkPolicy").values()]
    edges = [name for name, pod in pods.items() if "http" in ports_of(pod) and name != "triton"]
    assert edges
    allowed = {
        (source, target, port)
        for source in pods
        for target in pods
        for port in (*PORTS.values(), 8001)
        if lets_out(policies, pods[source], pods[target], port)
        and lets_in(policies, pods[source], pods[target], port)
    }
    inside = {(source, target) for source, target, _ in allowed}
    called = calls_in_code()
    edge = edges[0]
    for source, targets in called.items():
        for target in targets:
            here = edge if source == "gateway" else source
            if here != target:
                assert (here, target, PORTS[target]) in allowed, (source, target)
    wanted = {(edge if s == "gateway" else s, t) for s, targets in called.items() for t in targets}
    front = {("envoy", edge), *(("envoy", name) for name in SERVICES)} if "envoy" in pods else set()
    triton = {(name, "triton") for name in ("inference", "embedding", "image")}
    asked = {("health", name) for name in SERVICES}
    extra = inside - wanted - front - triton - asked
    assert {pair for pair in extra if pair[0] != pair[1]} == set()


def calls_in_code() -> dict[str, set[str]]:
    """Who opens channels to whom: `settings.services.<name>.target` in each service's folder, what
    all services share being the catalogue's; the edge has a channel to every one."""
    found = {"gateway": set(SERVICES)}
    for name in SERVICES:
        code = "".join(path.read_text() for path in (REPOSITORY / "services" / name).rglob("*.py"))
        found[name] = set(re.findall(r"services\.(\w+)\.target\b", code)) | {"model"}
        found[name].discard(name)
    assert found["retrieval"] == {"model", "embedding", "inference"}  # or the pattern is stale
    return found


def applies(policy: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    return matches(policy["podSelector"], pod)


def matches(selector: Mapping[str, Any], pod: Mapping[str, Any]) -> bool:
    return selector.get("matchLabels", {}).items() <= pod["metadata"]["labels"].items()


def lets_in(policies: list[dict[str, Any]], source: Any, target: Any, port: int) -> bool:
    return any(
        goes(rule, "from", source, port)
        for policy in policies
        if applies(policy, target)
        for rule in policy.get("ingress") or ()
    )


def lets_out(policies: list[dict[str, Any]], source: Any, target: Any, port: int) -> bool:
    return any(
        goes(rule, "to", target, port)
        for policy in policies
        if applies(policy, source)
        for rule in policy.get("egress") or ()
    )


def goes(rule: Mapping[str, Any], way: str, pod: Any, port: int) -> bool:
    if "ports" in rule and port not in {one["port"] for one in rule["ports"]}:
        return False
    peers = rule.get(way)
    # Peers of other namespaces are nobody of the release.
    return peers is None or any(
        "namespaceSelector" not in peer and matches(peer["podSelector"], pod) for peer in peers
    )
