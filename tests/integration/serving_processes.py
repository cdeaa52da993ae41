"""ModelService and services that serve its models, run as processes over one data directory."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from penstock.model.v1 import model_pb2, model_service_pb2

from tests.ports import free_port

ADMIN = (("authorization", "Bearer admin-token"),)


class Processes:
    """The services over one data directory, on ports that stay theirs."""

    def __init__(self, folder: Path, service: str, config: str, *others: str) -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in ("model", service, *others)}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "admin-key").write_text("admin-token")
        (folder / "admin-key").chmod(0o600)
        file = folder / "penstock.toml"
        file.write_text(config.format(folder=folder))
        self._arguments = ["--config", str(file), "--data-dir", str(folder)]

    async def start(self, name: str) -> None:
        process = self.running[name] = self._run(name)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert line == {"service": name, "address": self.address(name)}

    async def kill(self, name: str, number: int = signal.SIGKILL) -> int:
        """Returns its exit status."""
        with self.running.pop(name) as process:
            process.send_signal(number)
            try:
                return await asyncio.to_thread(process.wait, 30)
            except subprocess.TimeoutExpired:
                process.kill()
                raise

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"

    def _run(self, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                *(sys.executable, "-m", f"services.{name}", "--port", str(self.ports[name])),
                *self._arguments,
            ],
            env=os.environ
            | {
                "PENSTOCK_SERVICE_TOKEN": "service-token",
                "PENSTOCK_SERVICES_MODEL_TARGET": self.address("model"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )


@asynccontextmanager
async def run_processes(
    folder: Path, service: str, config: str, *others: str
) -> AsyncIterator[Processes]:
    """Runs them with a configuration, in which `{folder}` stands for the folder."""
    processes = Processes(folder, service, config, *others)
    try:
        await asyncio.gather(*(processes.start(name) for name in processes.ports))
        yield processes
    finally:
        for name in tuple(processes.running):
            await processes.kill(name)


async def settled(models: Any, id: str, revision: int = 1) -> model_pb2.Model:
    """The model, once it serves this revision or failed."""
    get = model_service_pb2.GetModelRequest(name=f"models/{id}")
    name = f"models/{id}/revisions/{revision}"
    async with asyncio.timeout(90):
        while True:
            model = await models.GetModel(get, metadata=ADMIN, wait_for_ready=True)
            ready = model.state == model_pb2.Model.STATE_READY
            if model.state == model_pb2.Model.STATE_FAILED:
                return model
            if ready and name in model.serving_revisions:
                return model
            await asyncio.sleep(0.1)


async def until_ready(models: Any, id: str, revision: int = 1) -> model_pb2.Model:
    """The model, once it serves this revision."""
    model = await settled(models, id, revision)
    assert model.state == model_pb2.Model.STATE_READY, model.state_message
    return model
