"""Envoy's bootstraps of the deployment: what their source says, and valid to the real binary."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[3]
DEPLOY = REPOSITORY / "deploy"
BIN = Path(sys.executable).parent
FILES = DEPLOY / "helm" / "penstock" / "files"
BOOTSTRAPS = [DEPLOY / "compose" / "envoy.yaml", FILES / "envoy.yaml", FILES / "envoy-mtls.yaml"]


def test_they_are_what_their_source_says() -> None:
    command = [sys.executable, str(DEPLOY / "bootstraps.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "")


@pytest.mark.parametrize(
    ("script", "arguments", "told"),
    [
        ("deploy/bootstraps.py", ["--chekc"], "--chekc"),
        ("envoy/render.py", ["--check", "--mtls"], "--check"),
        ("envoy/render.py", ["--jwks", "keys.json"], "--jwt-issuer"),
        ("envoy/render.py", ["--http3"], "mtls"),
        ("envoy/render.py", ["--endpoint", "inference"], "host:"),
    ],
)
def test_what_makes_no_sense_is_refused(script: str, arguments: list[str], told: str) -> None:
    command = [sys.executable, str(REPOSITORY / script), *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (2, "")
    assert told in run.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def descriptor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("descriptor") / "penstock.binpb"
    command = [BIN / "buf", "build", "--exclude-source-info", "-o", made]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=60)
    return made


@pytest.mark.parametrize("path", BOOTSTRAPS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_envoy_takes_them(path: Path, descriptor: Path, tmp_path: Path) -> None:
    bootstrap = tmp_path / "envoy.yaml"
    text = path.read_text().replace("/etc/envoy/penstock.binpb", str(descriptor))
    bootstrap.write_text(text.replace("/etc/envoy/secrets", str(FILES)))
    run = subprocess.run(
        [BIN / "envoy", "--mode", "validate", "-l", "error", "-c", bootstrap],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr


def test_the_admin_interface_is_for_its_own_host() -> None:
    for path in BOOTSTRAPS:
        admin = yaml.safe_load(path.read_text())["admin"]["address"]["socket_address"]
        assert admin["address"] == "127.0.0.1"
