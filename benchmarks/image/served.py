"""Our service: ModelService and ImageService as processes, called over gRPC."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from penstock.image.v1 import image_pb2
from penstock.image.v1.image_service_pb2_grpc import ImageServiceStub

from benchmarks.image.jobs import CFG_SCALE, SAMPLER, Job
from benchmarks.processes import Child, ChildError

_KEY = "bench"
_MODEL = "painter"
_READY_S = 300.0
_CALL_S = 1800.0
_NOT_YET = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND}


@dataclass(frozen=True)
class Way:
    """How the service draws."""

    dtype: str
    batching: str


class Served:
    """A service that runs."""

    def __init__(self, stub: ImageServiceStub, way: Way) -> None:
        self._stub = stub
        self._way = way

    async def seconds(self, asked: Job) -> float:
        """Draws a job, one call by each caller at the same time, and returns how long it took."""
        start = time.perf_counter()
        await asyncio.gather(*(self._draw(asked, at) for at in range(len(asked.prompts))))
        return time.perf_counter() - start

    async def ready(self, asked: Job) -> None:
        """Draws one image as soon as the model is loaded. Raises ChildError when it never is."""
        deadline = time.monotonic() + _READY_S
        while True:
            try:
                return await self._draw(asked, 0)
            except grpc.aio.AioRpcError as error:
                if error.code() not in _NOT_YET or time.monotonic() > deadline:
                    raise ChildError(f"the image service, {self._way}: {error.details()}") from None
            await asyncio.sleep(0.2)

    async def _draw(self, asked: Job, at: int) -> None:
        request = image_pb2.ImageRequest(
            model=_MODEL,
            prompt=asked.prompts[at],
            seed=asked.seed + at,
            width=asked.side,
            height=asked.side,
            steps=asked.steps,
            cfg_scale=CFG_SCALE,
            sampler=SAMPLER,
        )
        answer = await self._stub.Generate(
            request, metadata=(("authorization", f"Bearer {_KEY}"),), timeout=_CALL_S
        )
        if len(answer.images) != 1:
            raise ChildError(f"the image service drew {len(answer.images)} images of 1")


@asynccontextmanager
async def serving(folder: Path, model: Path, way: Way) -> AsyncIterator[Served]:
    """Starts both services in a folder of their own."""
    name = f"{way.dtype}-{way.batching}"
    place = folder / name
    place.mkdir()
    config = place / "penstock.toml"
    config.write_text(
        f'[api.models.{_MODEL}]\npath = {json.dumps(str(model))}\ntype = "image"\n', "utf-8"
    )
    arguments = ("--port", "0", "--data-dir", str(place), "--config", str(config))
    environment = {
        "API_TOKENS": _KEY,
        "PENSTOCK_SERVICE_TOKEN": "bench-service",
        "PENSTOCK_SERVICES_IMAGE_DTYPE": way.dtype,
        "PENSTOCK_SERVICES_IMAGE_BATCHING": way.batching,
    }
    async with AsyncExitStack() as stack:
        catalogue = await Child.module(
            f"model-{name}", "services.model", place, *arguments, env=environment
        )
        stack.push_async_callback(catalogue.stop)
        environment["PENSTOCK_SERVICES_MODEL_TARGET"] = catalogue.ready["address"]
        painter = await Child.module(
            f"image-{name}", "services.image", place, *arguments, env=environment, ready_s=_READY_S
        )
        stack.push_async_callback(painter.stop)
        options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
        channel = grpc.aio.insecure_channel(painter.ready["address"], options)
        await stack.enter_async_context(channel)
        yield Served(ImageServiceStub(channel), way)
