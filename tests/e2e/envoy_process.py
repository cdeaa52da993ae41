"""Starts a real Envoy on a bootstrap of the repository, with only its addresses changed."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.settings import SERVICE_PORTS
from tests.e2e.stack import REPOSITORY, free_port

ENVOY = Path(sys.executable).with_name("envoy")
BUF = Path(sys.executable).with_name("buf")
PORTS = {**SERVICE_PORTS, "gateway": 8080}


@dataclass(frozen=True)
class Front:
    """A running Envoy."""

    address: str
    admin: str
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def stat(self, name: str) -> int:
        """The value of one of its counters or gauges."""
        text = httpx.get(f"{self.admin}/stats", params={"filter": f"^{re.escape(name)}$"}).text
        return int(text.rpartition(":")[2])


def moved(bootstrap: str, addresses: Mapping[str, str], front: int, admin: int) -> str:
    """The bootstrap with what runs where it runs in this test."""
    for name, port in PORTS.items():
        there = addresses[name].rpartition(":")[2]
        bootstrap, found = re.subn(rf"port_value: {port}\b", f"port_value: {there}", bootstrap)
        assert found, name
    bootstrap = re.sub(r"port_value: 8000\b", f"port_value: {front}", bootstrap)
    return re.sub(r"port_value: 9901\b", f"port_value: {admin}", bootstrap)


@contextlib.contextmanager
def envoy(folder: Path, addresses: Mapping[str, str]) -> Iterator[Front]:
    """Yields when every cluster was found healthy; ends Envoy by its pid."""
    bootstrap = (REPOSITORY / "envoy" / "bootstrap.yaml").read_text()
    front, admin = free_port(), free_port()
    config = folder / "envoy.yaml"
    descriptor = folder / "penstock.binpb"
    subprocess.run([BUF, "build", "-o", descriptor], cwd=REPOSITORY, check=True, timeout=60)
    moved_here = moved(bootstrap, addresses, front, admin)
    config.write_text(moved_here.replace("envoy/penstock.binpb", str(descriptor)))
    assert shutil.which(str(ENVOY)), "Envoy isn't installed: run `make test`"
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [ENVOY, "-c", config, "--disable-hot-restart", "--concurrency", "1"],
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        started = Front(f"127.0.0.1:{front}", f"http://127.0.0.1:{admin}", process)
        deadline = time.monotonic() + 60
        while not _ready(started):
            assert process.poll() is None, (folder / "envoy.log").read_text()
            assert time.monotonic() < deadline, (folder / "envoy.log").read_text()
            time.sleep(0.1)
        yield started
    finally:
        process.terminate()
        process.wait(30)


def _ready(front: Front) -> bool:
    try:
        clusters = httpx.get(f"{front.admin}/clusters?format=json").json()["cluster_statuses"]
        hosts = [host for cluster in clusters for host in cluster["host_statuses"]]
        return httpx.get(f"{front.admin}/ready").status_code == 200 and all(
            host["health_status"].keys() == {"eds_health_status"} for host in hosts
        )
    except httpx.TransportError:
        return False
