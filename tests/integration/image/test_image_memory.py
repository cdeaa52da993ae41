"""A service process keeps its memory bounded, whatever its clients send at once."""

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub
from penstock.model.v1.model_service_pb2_grpc import ModelServiceStub
from PIL import Image

from tests.integration.image.image_platform import ADMIN, request
from tests.integration.image.test_image_processes import Processes, drawn, settled

SIDE = 4000
WHOLE = SIDE * SIDE * 4
"""Bytes of a decoded picture."""
CLIENTS = 8


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    processes = Processes(tmp_path)
    for name in ("model", "image"):
        await asyncio.to_thread(processes.start, name)
    yield processes
    for name in tuple(processes.running):
        await asyncio.to_thread(processes.end, name)


def peak(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def large(kind: str) -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize((SIDE, SIDE)).convert("RGB").save(file, kind)
    return file.getvalue()


async def test_eight_clients_with_large_pictures(processes: Processes) -> None:
    """Two pictures are decoded at a time, and each is for a moment there twice: six whole ones are
    never there, and eight would be if every client's lay decoded until its turn."""
    files = [large("JPEG"), large("PNG")]
    model_channel = grpc.aio.insecure_channel(processes.address("model"))
    image_channel = grpc.aio.insecure_channel(processes.address("image"))
    async with model_channel, image_channel:
        await settled(ModelServiceStub(model_channel), "first")
        image = ImageServiceStub(image_channel)
        await drawn(image)
        pid = processes.running["image"].pid
        before = peak(pid)
        asked = [
            request(
                model="first", width=64, height=64, seed=number, init_images=[files[number % 2]]
            )
            for number in range(CLIENTS)
        ]
        answers = await asyncio.gather(*(image.Generate(one, metadata=ADMIN) for one in asked))
        assert [len(answer.images) for answer in answers] == [1] * CLIENTS
        assert peak(pid) - before < 6 * WHOLE
