"""The Helm chart, rendered by Helm itself: valid, closed, and of one mind with the settings."""

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from services.cli.roster import ROSTER
from services.rpc.probe import NAMES, main
from services.settings import Settings
from tests.unit.deploy.rendered import DEPLOY, WRONG, Chart, Release, ports_of
from tests.unit.deploy.schemas import VERSIONS, validate
from tests.unit.deploy.settings_of import SECRETS, read

REPOSITORY = Path(__file__).resolve().parents[3]
TELLING = REPOSITORY / "services" / "serving" / "telling.py"
SERVICES = {
    name: int(getattr(Settings().services, name).address.rpartition(":")[2])
    for name in (entry.name for entry in ROSTER)
    if name != "gateway"
}
PORTS = SERVICES | {"gateway": int(Settings().api.address.rpartition(":")[2])}
OTHERS_KINDS = {  # CustomResourceDefinitions: their schemas are not to be had offline
    "Certificate", "GRPCRoute", "HTTPRoute", "PeerAuthentication", "PodMonitor", "RayCluster",
    "VirtualService",
}  # fmt: skip


def test_helm_finds_nothing(chart: Chart) -> None:
    assert chart.lint["errors"] == []
    serious = [one for one in chart.lint["messages"] if one["severity"] > 1]
    assert serious == []


@pytest.mark.parametrize("case", WRONG)
def test_wrong_values_are_named(chart: Chart, case: str) -> None:
    assert WRONG[case][1] in chart.errors[case]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_everything(release: Release, version: str) -> None:
    others: set[str] = set()
    for manifest in release.manifests:
        if manifest["kind"] in OTHERS_KINDS:
            others.add(manifest["kind"])
            assert "." in manifest["apiVersion"].partition("/")[0]
            continue
        validate(manifest, version)
    assert len(release.manifests) - len(others) > 20
    names = [(one["kind"], one["metadata"]["name"]) for one in release.manifests]
    assert len(names) == len(set(names))


def test_no_secret_is_made_and_none_is_a_variable(release: Release) -> None:
    assert not release.of("Secret")
    for name, container, _ in release.containers():
        variables = [one["name"] for one in container.get("env", ())]
        assert len(variables) == len(set(variables)), name
        for variable in variables:
            assert not re.search(r"(TOKEN|URL|PASSWORD|SECRET)$", variable) or variable in (
                "PENSTOCK_BLOBS_URL",
                "PENSTOCK_BLOBS_ENDPOINT_URL",
            ), variable


def ours(release: Release) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    found = [one for one in release.containers() if one[1]["name"] in NAMES]
    assert {one[1]["name"] for one in found} == set(NAMES)
    return found


def settings_of(release: Release, container: Mapping[str, Any], folder: Path) -> Any:
    toml = next(iter(release.of("ConfigMap").values()))
    toml = next(
        one["data"]["penstock.toml"]
        for one in release.of("ConfigMap").values()
        if "penstock.toml" in one["data"]
    )
    return read({one["name"]: one["value"] for one in container["env"]}, toml, folder)


def test_settings_are_what_processes_read(release: Release, tmp_path: Path) -> None:
    redis = any("REDIS" in str(one) for _, one, _ in release.containers())
    for workload, container, pod in ours(release):
        name = container["name"]
        settings, edge = settings_of(release, container, tmp_path)
        assert settings.auth.service_token == edge.service_token == SECRETS["service-token"]
        keeps = name in ("model", "inference", "training", "retrieval")
        keeps = keeps and not workload.endswith("-health")
        assert settings.database.url == (SECRETS["database-url"] if keeps else "")
        assert secrets_of(container, pod) == {
            *("service-token", "tokens.json"),
            *(["redis-url"] if redis else []),
            *(["database-url"] if keeps else []),
        }
        assert settings.redis.url == edge.redis.url == (SECRETS["redis-url"] if redis else "")
        assert settings.api.models
        assert settings.training.folder == Path("/var/lib/penstock/shared/training")
        address = settings.api.address if name == "gateway" else settings.services.of(name).address
        telling = (
            settings.api if name == "gateway" else settings.services.of(name)
        ).metrics_address
        if workload.endswith("-health"):  # the test asks over the names that others use
            assert address == f"demo-penstock-{name}:{PORTS[name]}"
            continue
        assert address == f"0.0.0.0:{PORTS[name]}"
        assert telling == f"0.0.0.0:{PORTS[name] + 1000}"
        ports = {port["containerPort"] for port in container["ports"]}
        assert ports == {PORTS[name], PORTS[name] + 1000}
        for other, port in SERVICES.items():
            target = settings.services.of(other).target
            assert target == edge.addresses[other]
            beside = other == "inference" and name == "gateway" and "inference" in workload
            expected = "localhost" if beside else f"dns:///demo-penstock-{other}"
            assert target == f"{expected}:{port}"
        grace = edge.drain_s + 5.0
        if name != "gateway":
            own = settings.services.of(name)
            grace = own.grace_s + own.drain_delay_s
        assert pod["terminationGracePeriodSeconds"] >= grace + 5


def secrets_of(container: Mapping[str, Any], pod: Mapping[str, Any]) -> set[str]:
    """Which keys of the Secret a container can read."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = [volumes[mount["name"]] for mount in container["volumeMounts"]]
    return {
        item["key"]
        for volume in mounted
        if volume.get("secret", {}).get("secretName") == "penstock"
        for item in volume["secret"]["items"]
    }


def test_extra_variables_replace_the_charts(chart: Chart, tmp_path: Path) -> None:
    release = Release(chart.cases["mutual-tls"])
    inference = next(one for _, one, _ in ours(release) if one["name"] == "inference")
    assert settings_of(release, inference, tmp_path)[0].services.inference.grace_s == 9


def test_triton_and_ray_are_what_services_use(chart: Chart, tmp_path: Path) -> None:
    release = Release(chart.cases["triton-and-ray"])
    for _, container, _ in ours(release):
        settings, _ = settings_of(release, container, tmp_path)
        assert settings.triton.endpoints == tuple(
            f"demo-penstock-triton-{number}.demo-penstock-triton:8001" for number in range(2)
        )
        assert settings.training.ray_address == "http://demo-penstock-ray-head-svc:8265"
        break
    service = release.of("Service")["demo-penstock-triton"]["spec"]
    assert (service["clusterIP"], [port["port"] for port in service["ports"]]) == ("None", [8001])
    pods = release.of("StatefulSet")["demo-penstock-triton"]["spec"]
    assert (pods["serviceName"], pods["replicas"]) == ("demo-penstock-triton", 2)
    assert "demo-penstock-ray" in release.of("RayCluster")


def test_processes_have_the_right_to_nothing(release: Release) -> None:
    for name, container, pod in release.containers():
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["limits"]["memory"], name
        mounts = {mount["name"] for mount in container["volumeMounts"]}
        assert mounts <= {volume["name"] for volume in pod["volumes"]}, name
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def probes_of(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]


def test_probes_ask_what_answers(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    served = {f"penstock.{name}.v1.{name.capitalize()}Service" for name in SERVICES}
    for workload, container, _ in ours(release):
        if workload.endswith("-health"):
            command = container["command"]
            check_command(command, capsys)
            continue
        for probe in probes_of(container):
            if "grpc" in probe:
                assert probe["grpc"]["port"] == PORTS[container["name"]]
                service = probe["grpc"].get("service", "")
                assert service in served | {""} or service.startswith("models/")
            elif "exec" in probe:
                check_command(probe["exec"]["command"], capsys)
            else:
                assert probe["httpGet"]["port"] == PORTS["gateway"]
                assert probe["httpGet"]["path"] in open_paths()


def check_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It is the image's own, with options that it has."""
    assert command[:3] == ["python", "-m", "services.rpc.probe"]
    assert importlib.util.find_spec(command[2])
    with pytest.raises(SystemExit) as ended:
        main([*command[3:], "--help"])
    assert ended.value.code == 0
    offered = capsys.readouterr().out
    options = [word.partition("=")[0] for word in command[4:]]
    assert all(option in offered for option in options)


def open_paths() -> set[str]:
    """Paths of the edge that need no key."""
    from gateway.dialects.open_inference.operations import OPERATIONS

    return {one.path for one in OPERATIONS if one.open}


def test_services_and_scalers_find_their_pods(release: Release) -> None:
    for name, service in release.of("Service").items():
        pods = release.selected(service["spec"]["selector"])
        assert pods, name
        for port in service["spec"]["ports"]:
            assert all(port["targetPort"] in ports_of(pod) for pod in pods), name
            component = name.removeprefix("demo-penstock-")
            if component in PORTS:
                assert port["port"] == PORTS[component]
    for name, scaler in release.of("HorizontalPodAutoscaler").items():
        target = release.of("Deployment")[scaler["spec"]["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"], name
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Pods":
                told = metric["pods"]["metric"]["name"]
                assert f'"{told}"' in TELLING.read_text(), told
                adapter = (DEPLOY / "helm" / "prometheus-adapter-values.yaml").read_text()
                assert told in adapter
    for name, budget in release.of("PodDisruptionBudget").items():
        assert len(release.selected(budget["spec"]["selector"]["matchLabels"])) == 1, name


def test_every_service_is_a_component(release: Release) -> None:
    assert {field.name for field in fields(Settings().services)} - {"data_dir"} == set(SERVICES)
    assert {f"demo-penstock-{name}" for name in PORTS} <= set(release.of("Service"))
