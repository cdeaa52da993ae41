"""ImageService and ModelService as they are run: killed in the middle of a job, restarted, given
other models."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from penstock.image.v1 import image_service_pb2 as pb
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from penstock.model.v1 import model_pb2, model_service_pb2
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub

from tests.integration.image.image_platform import ADMIN, reason, request
from tests.ports import free_port

CONFIG = """
[api.models.first]
path = "{folder}"
type = "image"
aliases = ["default-image"]

[api.models.talker]
path = "{folder}"

[services.image]
engine = "echo"
max_pixels = 1000000
"""


class Processes:
    """Both services over one data directory, on ports that stay theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {"model": free_port(), "image": free_port()}
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "admin-key").write_text("admin-token")
        (folder / "admin-key").chmod(0o600)
        file = folder / "penstock.toml"
        file.write_text(CONFIG.format(folder=folder))
        self._arguments = ["--config", str(file), "--data-dir", str(folder)]

    def start(self, name: str) -> None:
        process = self.running[name] = subprocess.Popen(
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
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        assert line == {"service": name, "address": self.address(name)}

    def end(self, name: str, number: int = signal.SIGKILL) -> int:
        process = self.running.pop(name)
        process.send_signal(number)
        code = process.wait(60)
        assert process.stdout is not None
        process.stdout.close()
        return code

    def address(self, name: str) -> str:
        return f"127.0.0.1:{self.ports[name]}"


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(tmp_path)
    for name in ("model", "image"):
        await asyncio.to_thread(processes.start, name)
    yield processes
    for name in tuple(processes.running):
        await asyncio.to_thread(processes.end, name)


async def settled(models: Any, id: str, revision: int = 1) -> model_pb2.Model:
    """The model, once a revision of it serves."""
    get = model_service_pb2.GetModelRequest(name=f"models/{id}")
    async with asyncio.timeout(90):
        while True:
            model = await models.GetModel(get, metadata=ADMIN, wait_for_ready=True)
            assert model.state != model_pb2.Model.STATE_FAILED, model.state_message
            if f"models/{id}/revisions/{revision}" in model.serving_revisions:
                return model
            await asyncio.sleep(0.05)


def deployed(id: str, folder: Path) -> model_service_pb2.DeployModelRequest:
    folder.mkdir(exist_ok=True)
    return model_service_pb2.DeployModelRequest(
        model_id=id, kind=model_pb2.MODEL_KIND_IMAGE, source=str(folder), allow_update=True
    )


async def drawn(image: Any, **more: Any) -> pb.ImageResponse:
    """An answer, as soon as the model serves."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await image.Generate(
                    request(model="", width=64, height=64, **more),
                    metadata=ADMIN,
                    wait_for_ready=True,
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.05)


async def to_the_end(stream: Any) -> str:
    """The last event's kind."""
    last = ""
    while (event := await stream.read()) is not grpc.aio.EOF:
        last = event.WhichOneof("event")
    return last


async def test_the_loop_serves_images_and_heals(processes: Processes) -> None:
    model_channel = grpc.aio.insecure_channel(processes.address("model"))
    image_channel = grpc.aio.insecure_channel(processes.address("image"))
    async with model_channel, image_channel:
        models, image = ModelServiceStub(model_channel), ImageServiceStub(image_channel)
        first = await settled(models, "first")
        assert first.capabilities == model_pb2.Capabilities(
            seed=True, image_input=True, image_to_image=True
        )
        before = await drawn(image)
        assert before.model == "first"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await image.Generate(request(model="talker"), metadata=ADMIN)
        assert reason(caught.value) == ("INVALID_ARGUMENT", "model")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await image.Generate(request(model="first", width=1024, height=1024), metadata=ADMIN)
        assert reason(caught.value) == ("INVALID_ARGUMENT", "width")

        # Another model comes in, is replaced while it draws, and goes.
        folder = processes.folder
        await models.DeployModel(deployed("second", folder), metadata=ADMIN)
        await settled(models, "second")
        listed = await image.ListCheckpoints(pb.ListCheckpointsRequest(), metadata=ADMIN)
        assert [each.model for each in listed.checkpoints] == ["first", "second"]
        drawing = image.StreamGenerate(
            request(model="second", batch_count=8, steps=100, width=512, height=512), metadata=ADMIN
        )
        assert (await drawing.read()).WhichOneof("event") == "queued"
        await models.DeployModel(deployed("second", folder / "new"), metadata=ADMIN)
        await settled(models, "second", 2)
        assert await to_the_end(drawing) == "finish", "a job ends on the revision that it began on"
        await models.DeleteModel(
            model_service_pb2.DeleteModelRequest(name="models/second"), metadata=ADMIN
        )
        async with asyncio.timeout(60):
            while len(listed.checkpoints) > 1:
                await asyncio.sleep(0.05)
                listed = await image.ListCheckpoints(pb.ListCheckpointsRequest(), metadata=ADMIN)

        # Killed in the middle of a job: its caller is told, and the next is drawn as before.
        long = image.StreamGenerate(
            request(model="first", batch_count=64, steps=150, width=960, height=960),
            metadata=ADMIN,
        )
        assert (await long.read()).WhichOneof("event") == "queued"
        while (await long.read()).WhichOneof("event") != "image":
            pass
        await asyncio.to_thread(processes.end, "image")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await to_the_end(long)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.to_thread(processes.start, "image")
        after = await drawn(image)
        assert after.images[0].data == before.images[0].data
        assert after.finish.fingerprint == before.finish.fingerprint
        assert await asyncio.to_thread(processes.end, "image", signal.SIGTERM) == 0
        assert await asyncio.to_thread(processes.end, "model", signal.SIGTERM) == 0
