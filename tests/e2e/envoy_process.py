"""Starts a real Envoy on a bootstrap that the repository's source renders for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gateway.settings import SERVICE_PORTS
from tests.e2e.envoy_render import rendered
from tests.e2e.stack import REPOSITORY, until
from tests.ports import free_port

ENVOY = Path(sys.executable).with_name("envoy")
BUF = Path(sys.executable).with_name("buf")
NOBODY = "127.0.0.1:1"


@dataclass(frozen=True)
class Front:
    """A running Envoy."""

    address: str
    admin: str
    process: subprocess.Popen[bytes]
    log: Path
    url: str

    def stat(self, name: str) -> int:
        """The value of one of its counters or gauges; 0 for one that it has not counted yet."""
        text = httpx.get(f"{self.admin}/stats", params={"filter": f"^{re.escape(name)}$"}).text
        return int(text.rpartition(":")[2] or 0)

    def hosts(self, cluster: str) -> dict[str, dict[str, Any]]:
        """The health of each host of a cluster, by its port; empty is healthy."""
        found = httpx.get(f"{self.admin}/clusters?format=json").json()["cluster_statuses"]
        (statuses,) = (one["host_statuses"] for one in found if one["name"] == cluster)
        return {
            str(host["address"]["socket_address"]["port_value"]): {
                name: value
                for name, value in host["health_status"].items()
                if name != "eds_health_status"
            }
            for host in statuses
        }

    def post(self, path: str) -> None:
        """Tells it something."""
        httpx.post(self.admin + path).raise_for_status()

    def accesses(self, at_least: int = 1, **like: Any) -> list[dict[str, Any]]:
        """What its access log says of requests like this; waits for so many."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            lines = [line for line in self.log.read_text().splitlines() if line.startswith("{")]
            entries = [json.loads(line) for line in lines]
            found[:] = [entry for entry in entries if like.items() <= entry.items()]
            return len(found) >= at_least

        until(look)
        return found


def endpoints(addresses: Mapping[str, str]) -> dict[str, Sequence[str]]:
    """Where a platform's services and edge are, as options take it."""
    renamed = {"edge" if name == "gateway" else name: at for name, at in addresses.items()}
    return {name: (f"127.0.0.1:{at.rpartition(':')[2]}",) for name, at in renamed.items()}


def alone(**given: Sequence[str]) -> dict[str, Sequence[str]]:
    """Endpoints of a front with nothing behind it but these."""
    return dict.fromkeys((*SERVICE_PORTS, "edge"), (NOBODY,)) | given


@contextlib.contextmanager
def envoy(
    folder: Path, options: Any, *, healthy: Collection[str] = (*SERVICE_PORTS, "edge")
) -> Iterator[Front]:
    """Yields when all hosts of these clusters were found healthy; ends Envoy by its pid."""
    assert shutil.which(str(ENVOY)), "Envoy isn't installed: run `make test`"
    folder.mkdir(exist_ok=True)
    front, admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    here = {"listen": front, "admin": admin, "descriptor": str(descriptor(folder))}
    bootstrap = rendered(dataclasses.replace(options, **here))
    with running_envoy(folder, bootstrap) as process:
        scheme = "https" if options.mtls else "http"
        url = f"{scheme}://{front}"
        started = Front(front, f"http://{admin}", process, folder / "envoy.log", url)
        deadline = time.monotonic() + 60
        while not _ready(started, healthy):
            assert process.poll() is None, started.log.read_text()
            assert time.monotonic() < deadline, started.log.read_text()
            time.sleep(0.05)
        yield started


@contextlib.contextmanager
def running_envoy(folder: Path, bootstrap: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yields once it was started; what it writes is in `envoy.log`."""
    config = folder / "envoy.yaml"
    config.write_text(bootstrap)
    with (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(ENVOY, "-c", config, "--disable-hot-restart", "--concurrency", "1"),
                *("-l", "warning", "--drain-time-s", "1", "--file-flush-interval-msec", "20"),
            ],
            cwd=REPOSITORY,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def descriptor(folder: Path) -> Path:
    """The protos' descriptor set, made as `make envoy` makes it."""
    made = folder.parent / "penstock.binpb"
    if not made.exists():
        subprocess.run(
            [BUF, "build", "--exclude-source-info", "-o", made],
            cwd=REPOSITORY,
            check=True,
            timeout=60,
        )
    return made


def _ready(front: Front, healthy: Collection[str]) -> bool:
    try:
        return httpx.get(f"{front.admin}/ready").status_code == 200 and all(
            not health for cluster in healthy for health in front.hosts(cluster).values()
        )
    except httpx.TransportError:
        return False
