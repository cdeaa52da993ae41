"""A real Ray of one node. `make test-ray` gives it a network and processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

_RAY = Path(__file__).parents[2] / ".venv/clients/ray/bin/ray"
_PORT = 8265
_START_S = 400.0
CPUS = 4
"""That Ray believes to have: jobs of these tests need hardly any."""


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Runs Ray; gives the address of its dashboard."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    interfaces = [line.split(":")[0].strip() for line in lines if ":" in line]
    if interfaces != ["lo"] or not _RAY.exists():
        pytest.fail("Run `make test-ray`: Ray listens to everybody, so it gets its own network.")
    # Below /tmp, for sockets have short paths.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            ray = subprocess.Popen(
                [
                    *(_RAY, "start", "--head", "--block", "--disable-usage-stats", "--no-monitor"),
                    *(f"--temp-dir={folder}/ray", "--node-ip-address=127.0.0.1"),
                    *("--dashboard-host=127.0.0.1", f"--dashboard-port={_PORT}"),
                    *(f"--num-cpus={CPUS}", "--num-gpus=0", "--object-store-memory=80000000"),
                    "--include-log-monitor=false",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": folder,
                    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": "300",
                    "RAY_agent_register_timeout_ms": "300000",
                    # Processes that train together find each other by it.
                    "GLOO_SOCKET_IFNAME": "lo",
                },
            )
        try:
            address = f"http://127.0.0.1:{_PORT}"
            _wait_until_ready(ray, address, log)
            yield address
        finally:
            ray.terminate()
            try:
                ray.wait(60)
            except subprocess.TimeoutExpired:
                ray.kill()
                ray.wait()


def _wait_until_ready(ray: subprocess.Popen[bytes], address: str, log: Path) -> None:
    """Waits until Ray has run a first job: it starts what it needs for that only then."""
    deadline = time.monotonic() + _START_S
    submitted = False
    while time.monotonic() < deadline:
        if ray.poll() is not None:
            break
        try:
            if not submitted:
                _call(f"{address}/api/jobs/", {"entrypoint": "true", "submission_id": "first"})
                submitted = True
            elif json.loads(_call(f"{address}/api/jobs/first"))["status"] == "SUCCEEDED":
                return
        except (OSError, urllib.error.HTTPError):
            pass
        time.sleep(0.3)
    pytest.fail(f"Ray does not start:\n{log.read_text()[-5000:]}")


def _call(url: str, body: dict[str, str] | None = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()
