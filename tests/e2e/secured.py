"""A platform of processes with identities of their own, that talk over mutual TLS only."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.e2e.stack import REPOSITORY, USER_TOKEN, configuration
from tests.integration.access.certificates import Authority
from tests.ports import free_ports
from tests.rotated_certificates import CertificateFolder

MODELS = {"echo": {"path": "echo", "type": "chat"}}
ECHO = configuration(MODELS, '[services.inference]\nengine = "echo"\n')
PROCESSES = ("model", "inference", "gateway")


class Secured:
    """Services and the edge, which is the last that starts."""

    def __init__(
        self, folder: Path, authority: Authority, config: str, names: Sequence[str]
    ) -> None:
        self.folder = folder
        self.addresses = {
            name: f"127.0.0.1:{port}"
            for name, port in zip(names, free_ports(len(names)), strict=True)
        }
        self.identities = {
            name: CertificateFolder(folder / name, f"spiffe://penstock/{name}")
            for name in (*names, "envoy", "front")
        }
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "penstock.toml").write_text(config)
        for identity in self.identities.values():
            identity.fill(authority)

    def start(self, name: str) -> None:
        """Returns once it listens."""
        identity = self.identities[name]
        services = {
            f"PENSTOCK_SERVICES_{service.upper()}_ADDRESS": address
            for service, address in self.addresses.items()
            if service != "gateway"
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = self._running[name] = subprocess.Popen(
                [
                    *(sys.executable, "-m", name if name == "gateway" else f"services.{name}"),
                    *("--port", self.addresses[name].rpartition(":")[2]),
                    *("--data-dir", str(self.folder / "data")),
                    *("--config", str(self.folder / "penstock.toml")),
                ],
                env={k: v for k, v in os.environ.items() if not k.startswith("PENSTOCK_")}
                | services
                | {
                    "API_TOKENS": USER_TOKEN,
                    "PENSTOCK_SERVICE_TOKEN": "a-service-token",
                    "PENSTOCK_TLS_CERTIFICATE": str(identity.certificate),
                    "PENSTOCK_TLS_KEY": str(identity.key),
                    "PENSTOCK_TLS_CLIENT_CA": str(identity.ca),
                    "PENSTOCK_TLS_PEERS": "spiffe://penstock/*",
                },
                cwd=REPOSITORY,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.folder / f"{name}.log").read_text()
        assert json.loads(line)["service"] == name

    def stop(self, name: str) -> None:
        """Lets it drain."""
        process = self._running.pop(name)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
        assert process.stdout is not None
        process.stdout.close()

    def secrets(self, name: str, mesh: CertificateFolder | None = None) -> str:
        """The folder that tells an Envoy where its certificates lie."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        places = {
            "/etc/penstock/front": str(self.identities["front"].folder),
            "/etc/penstock/mesh": str((mesh or self.identities["envoy"]).folder),
        }
        for file in (REPOSITORY / "envoy" / "secrets").glob("*.yaml"):
            text = file.read_text()
            for place, real in places.items():
                text = text.replace(place, real)
            (folder / file.name).write_text(text)
        return str(folder)


@contextlib.contextmanager
def secured(
    folder: Path, authority: Authority, config: str = ECHO, names: Sequence[str] = PROCESSES
) -> Iterator[Secured]:
    """Runs it, with certificates of this authority."""
    platform = Secured(folder, authority, config, names)
    started: list[str] = []
    try:
        for name in names:
            platform.start(name)
            started.append(name)
        yield platform
    finally:
        for name in reversed(started):
            platform.stop(name)
