"""The edge, ImageService on its echo engine, and ModelService: processes, as they are run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from policy.principals import Role
from policy.token_file import TokenFile
from tests.integration.serving_processes import Processes

CONFIG = """
[api.models.first]
path = "{folder}"
type = "image"
aliases = ["default-image"]

[api.models.second]
path = "{folder}"
type = "image"

[services.image]
engine = "echo"
"""
_START_S = 90


@dataclass(frozen=True)
class WebuiPlatform:
    host: str
    port: int
    tokens: tuple[str, str]
    """Of two users."""
    processes: Processes


@contextmanager
def webui_platform(folder: Path) -> Iterator[WebuiPlatform]:
    keys = TokenFile(folder / "tokens.json")
    first, second = (keys.create(name, [Role.USER])[1] for name in ("first", "second"))
    processes = Processes(folder, "image", CONFIG)
    environment = os.environ | {
        "PENSTOCK_SERVICE_TOKEN": "service-token",
        **{
            f"PENSTOCK_SERVICES_{name.upper()}_TARGET": processes.address(name)
            for name in processes.ports
        },
    }
    command = [sys.executable, "-m", "gateway", "--port", "0", "--data-dir", str(folder)]
    edge = None
    try:
        asyncio.run(_start(processes))
        edge = subprocess.Popen(
            [*command, "--config", str(folder / "penstock.toml")],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert edge.stdout is not None
        host, _, port = json.loads(edge.stdout.readline())["address"].rpartition(":")
        until_served(f"http://{host}:{port}", first)
        yield WebuiPlatform(host, int(port), (first, second), processes)
    finally:
        if edge is not None:
            with edge:
                edge.send_signal(signal.SIGTERM)
                edge.wait(30)
        asyncio.run(_stop(processes))


async def _start(processes: Processes) -> None:
    await asyncio.gather(*(processes.start(name) for name in processes.ports))


async def _stop(processes: Processes) -> None:
    for name in tuple(processes.running):
        await processes.kill(name)


def until_served(url: str, token: str) -> None:
    end = time.monotonic() + _START_S
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=url, headers=headers, timeout=_START_S) as http:
        while True:
            models = http.get("/sdapi/v1/sd-models").json()
            # Those that are not loaded have no hash yet.
            if isinstance(models, list) and sum(bool(model["hash"]) for model in models) == 2:
                return
            assert time.monotonic() < end, models
            time.sleep(0.05)
