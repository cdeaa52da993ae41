"""What the chart makes, run: variables, settings, Envoy's bootstrap and probes, over mutual TLS.
Only the containers are missing, and the cluster."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from services.cli.roster import ROSTER
from tests.e2e.envoy_process import descriptor
from tests.integration.access.certificates import Authority
from tests.unit.deploy.rendered import Manifest, Release, render
from tests.unit.deploy.settings_of import SECRETS

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = {entry.name: entry.module for entry in ROSTER}
INSIDE = ["unshare", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--mount-proc"]
# Engines that need no weights: what is tried is how the processes are put together.
SETTINGS = """
[services.inference]
engine = "echo"
[services.embedding]
engine = "echo"
[services.image]
engine = "echo"
[api.models.penstock-starter]
path = "{starter}"
[api.models.all-minilm-l6-v2]
path = "{starter}"
type = "embedding"
[api.models.penstock-starter-image]
path = "{starter}"
type = "image"
"""
VALUES = {
    "redis": False,
    "settings": SETTINGS.format(starter=REPOSITORY / "starters" / "chat" / "model"),
    "tls": {"enabled": True, "trustDomain": "acme.example"},
    "envoy": {"tlsSecret": "front"},
    "components": {"gateway": {"placement": "inference"}},
}


def has_namespaces() -> bool:
    if not (shutil.which("unshare") and shutil.which("ip")):
        return False
    return subprocess.run([*INSIDE, "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.e2e
@pytest.mark.slow  # eight processes
@pytest.mark.skipif(not has_namespaces(), reason="needs namespaces and iproute2")
def test_it_serves_over_mutual_tls(tmp_path: Path) -> None:
    release = render(VALUES)
    authority = Authority(tmp_path)
    containers = [
        one
        for _, one, _ in release.containers()
        if one["name"] in MODULES and "readinessProbe" in one
    ]
    assert {one["name"] for one in containers} == set(MODULES)
    for name in (*MODULES, "envoy", "front"):
        issue(authority, tmp_path / name, name)
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(text)
    made = subprocess.run(
        [sys.executable, REPOSITORY / "deploy" / "compose" / "make_secrets.py", tmp_path / "made"],
        check=True,
        capture_output=True,
        text=True,
    )
    (tmp_path / "key").write_text(made.stdout.split()[-1])
    (tmp_path / "tokens.json").write_text((tmp_path / "made" / "tokens.json").read_text())
    lay_out(release, tmp_path)
    (tmp_path / "containers.json").write_text(
        json.dumps([container(one, tmp_path) for one in containers])
    )
    run = subprocess.run(
        [*INSIDE, sys.executable, "-m", "tests.e2e.chart_platform", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["ready"] == dict.fromkeys(MODULES, "ready")
    assert {name: status for name, (status, _) in told["story"].items()} == {
        "rest": 200,
        "native": 200,
        "embedding": 200,
    }, told["story"]


def issue(authority: Authority, folder: Path, name: str) -> None:
    """Lays certificates into a folder as cert-manager does, with the names of the chart's."""
    folder.mkdir()
    certificate, key = authority.issue(
        name,
        x509.UniformResourceIdentifier(f"spiffe://acme.example/{name}"),
        x509.DNSName(f"demo-penstock-{name}"),
        x509.DNSName("localhost"),
    )
    shutil.copy(certificate, folder / "tls.crt")
    shutil.copy(key, folder / "tls.key")
    shutil.copy(authority.file, folder / "ca.crt")


def lay_out(release: Release, folder: Path) -> None:
    """Puts what ConfigMaps hold where the processes are going to find it, and the names of
    Services into a hosts file."""
    maps = release.of("ConfigMap")
    settings = maps["demo-penstock-settings"]["data"]["penstock.toml"]
    (folder / "penstock.toml").write_text(settings)
    moved = {
        "/etc/penstock/front": str(folder / "front"),
        "/etc/penstock/mesh": str(folder / "envoy"),
        "/etc/envoy/secrets": str(folder),
        "/etc/envoy/penstock.binpb": str(descriptor(folder / "descriptor")),
    }
    for name, text in maps["demo-penstock-envoy"]["data"].items():
        for place, here in moved.items():
            text = text.replace(place, here)
        assert yaml.safe_load(text)
        (folder / name).write_text(text)
    names = ["localhost", *release.of("Service")]
    (folder / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in names))


def container(one: Manifest, folder: Path) -> Manifest:
    """What of a container is run here: with its mounts in a folder, and a database of its own."""
    name = one["name"]
    moved = {
        "/etc/penstock/tls": str(folder / name),
        "/etc/penstock/secrets": str(folder),
        "/etc/penstock/penstock.toml": str(folder / "penstock.toml"),
        "/var/lib/penstock/shared": str(folder / "shared"),
        "/var/lib/penstock": str(folder / name),
    }
    env: dict[str, str] = {}
    for variable in one["env"]:
        value = variable["value"]
        for place, here in moved.items():
            value = value.replace(place, here)
        env[variable["name"]] = value
    if env.pop("PENSTOCK_DATABASE_URL_FILE", None):
        env["PENSTOCK_DATABASE_URL"] = f"sqlite+aiosqlite:///{folder / name}.db"
    probe = one["readinessProbe"]
    return {"name": name, "module": MODULES[name], "env": env, "probe": probe}
