"""What the chart makes of sets of values that differ where it does."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
DEPLOY = HERE.parents[2] / "deploy"
Manifest = dict[str, Any]

VALUES: Mapping[str, Manifest] = {
    "default": {},
    "mutual-tls": {
        "tls": {
            "enabled": True,
            "trustDomain": "acme.example",
            "certManager": {"enabled": True, "issuerRef": {"name": "acme"}},
        },
        "envoy": {"tlsSecret": "front"},
        "components": {
            "gateway": {"placement": "inference"},
            "inference": {
                "gpu": True,
                "autoscaling": {"enabled": True},
                "extraEnv": [{"name": "PENSTOCK_SERVICES_INFERENCE_GRACE_S", "value": "9"}],
            },
        },
        "models": {"existingClaim": "weights"},
        "objectStore": {"url": "s3://bucket/penstock", "region": "eu-1"},
        "telemetry": {"otlpEndpoint": "http://collector:4317", "podMonitor": {"enabled": True}},
        "gatewayApi": {"enabled": True, "parentRefs": [{"name": "front"}]},
        "networkPolicy": {"egress": {"telemetry": {"port": 4317}, "objectStore": {"port": 443}}},
    },
    "triton-and-ray": {
        "triton": {
            "enabled": True,
            "replicas": 2,
            "modelRepository": {"existingClaim": "repository"},
            "engines": {"inference": "triton", "embedding": "triton", "image": "triton"},
        },
        "ray": {"enabled": True, "image": "acme/ray-penstock:1"},
        "models": {"existingClaim": "weights"},
        "mesh": {"kind": "istio"},
    },
    "least": {
        "envoy": {"enabled": False},
        "redis": False,
        "mesh": {"kind": "linkerd"},
        "serviceAccount": {"create": False, "name": "default"},
        "shared": {"existingClaim": "shared"},
        "networkPolicy": {"callers": [{"podSelector": {"matchLabels": {"app": "web"}}}]},
        "gatewayApi": {"enabled": True, "parentRefs": [{"name": "front"}]},
        "tests": {"enabled": False},
    },
}

WRONG: Mapping[str, tuple[Manifest, str]] = {
    "an unknown key": ({"nope": 1}, "'nope' not allowed"),
    "an unknown key of a component": ({"components": {"model": {"gpu": True}}}, "model/gpu"),
    "a secret as a value": ({"secrets": {"serviceToken": "x"}}, "'serviceToken' not allowed"),
    "scaling by nothing": (
        {"components": {"image": {"autoscaling": {"enabled": True}}}},
        "components/image",
    ),
    "routes to nowhere": ({"gatewayApi": {"enabled": True}}, "parentRefs"),
    "TLS without a certificate": ({"tls": {"enabled": True}}, "envoy.tlsSecret is needed"),
    "an issuer without a name": ({"tls": {"certManager": {"enabled": True}}}, "issuerRef/name"),
    "Triton without models": ({"triton": {"enabled": True}}, "modelRepository.existingClaim"),
    "Ray without an image": ({"ray": {"enabled": True}}, "ray.image is needed"),
}


@dataclass(frozen=True)
class Chart:
    """Its manifests by name of the case; what it says of wrong values; what lint found."""

    cases: Mapping[str, list[Manifest]]
    errors: Mapping[str, str]
    lint: Manifest


def render_all() -> Chart:
    answer = _helm([*VALUES.values(), *(values for values, _ in WRONG.values())])
    renders = answer["renders"]
    made = {name: _manifests(one) for name, one in zip(VALUES, renders, strict=False)}
    errors = {
        name: one.get("error", "") for name, one in zip(WRONG, renders[len(VALUES) :], strict=True)
    }
    return Chart(made, errors, answer["lint"])


def render(values: Manifest) -> "Release":
    return Release(_manifests(_helm([values])["renders"][0]))


def _helm(wanted: list[Manifest]) -> Manifest:
    run = subprocess.run(
        [sys.executable, HERE / "chart_renders.py"],
        input=json.dumps([{"values": values, "release": "demo"} for values in wanted]),
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return json.loads(run.stdout)


class _Strict(yaml.CSafeLoader):
    """Refuses keys that come twice, as the API server does."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{node.start_mark}: {twice} come twice"
        return super().construct_mapping(node, deep)


def _manifests(render: Manifest) -> list[Manifest]:
    assert "error" not in render, render["error"]
    texts = [text for name, text in render["files"].items() if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.load_all(text, _Strict) if one]


@dataclass(frozen=True)
class Release:
    """The manifests of one case, and ways into them."""

    manifests: list[Manifest]

    def of(self, kind: str) -> dict[str, Manifest]:
        return {one["metadata"]["name"]: one for one in self.manifests if one["kind"] == kind}

    @cached_property
    def pods(self) -> dict[str, Manifest]:
        """Templates of pods of the chart's own, by the name of their set; and the test."""
        sets = self.of("Deployment") | self.of("StatefulSet")
        found = {name: one["spec"]["template"] for name, one in sets.items()}
        return found | self.of("Pod")

    def containers(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """Name of the workload, container, spec of its pod."""
        for name, pod in self.pods.items():
            for container in pod["spec"]["containers"]:
                yield name, container, pod["spec"]

    def selected(self, labels: Mapping[str, str]) -> list[Manifest]:
        """Pods with these labels."""
        return [
            pod for pod in self.pods.values() if labels.items() <= pod["metadata"]["labels"].items()
        ]


def ports_of(pod: Manifest) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for container in pod["spec"]["containers"]
        for port in container.get("ports", ())
    }
