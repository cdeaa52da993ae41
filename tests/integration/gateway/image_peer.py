"""A peer for the edge: the image service over real gRPC, scripted by the prompt.

`waiting`, which the model may be called as well, is admitted and drawn until it is interrupted,
`busy` has nothing but progress for ever, `cut` ends without a finish, `fails-REASON` and
`fails-REASON-PARAM` fail, `huge` brings images of many bytes; all else is drawn at once: small
images of one colour, with an infotext.
"""
# ruff: noqa: N802 - methods bear the names of their RPCs

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import empty_pb2
from penstock.image.v1 import image_pb2, image_service_pb2_grpc, progress_pb2, sampler_pb2
from penstock.image.v1 import image_service_pb2 as service_pb2
from penstock.inference.v1 import usage_pb2
from PIL import Image, PngImagePlugin

from tests.integration.gateway.edge_backend import CODES, CREATED, failure

SEED = 4242
HASH = "0123456789abcdef" * 4
CHECKPOINTS = [
    sampler_pb2.Checkpoint(
        model=model,
        title=f"{model}.safetensors [{sha256[:10]}]",
        checkpoint_name=model,
        short_hash=sha256[:10],
        sha256=sha256,
        filename=f"{model}.safetensors",
        loaded=model == "second",
    )
    for model, sha256 in (("first", HASH), ("second", HASH[::-1]))
]


def picture(seed: int, text: str = "", size: tuple[int, int] = (16, 8)) -> bytes:
    colour = (seed % 256, seed // 256 % 256, 7)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", text)
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG", pnginfo=info)
    return file.getvalue()


class ImagePeer(image_service_pb2_grpc.ImageServiceServicer):
    def __init__(self) -> None:
        self.requests: list[image_pb2.ImageRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.time_left_s: list[float] = []
        self.live = 0
        self.begun, self.left = asyncio.Event(), asyncio.Event()
        self.options = sampler_pb2.Options()
        self.progress = progress_pb2.Progress()
        self.asked: list[str] = []
        self.interrupted = asyncio.Event()
        self.skips = 0
        self.changes: list[service_pb2.SetOptionsRequest] = []

    async def Generate(self, request: image_pb2.ImageRequest, context: Any) -> Any:
        response = service_pb2.ImageResponse()
        async for event in self.StreamGenerate(request, context):
            if event.HasField("image"):
                response.images.append(event.image)
            elif event.HasField("finish"):
                response.finish.CopyFrom(event.finish)
        return response

    async def StreamGenerate(
        self, request: image_pb2.ImageRequest, context: Any
    ) -> AsyncIterator[progress_pb2.ImageEvent]:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.time_left_s.append(context.time_remaining())
        await self._fail(request.prompt, context)
        job_id = request.job_id or "job-1"
        model = request.model or "second"
        queued = progress_pb2.Queued(job_id=job_id, model=model)
        queued.create_time.seconds = CREATED
        yield progress_pb2.ImageEvent(queued=queued)
        if request.prompt == "cut":
            return
        while request.prompt == "busy":
            self.live = 1
            try:
                yield progress_pb2.ImageEvent(progress=self.progress)
                await asyncio.sleep(0.002)
            finally:
                self.live = 0
        finish = progress_pb2.ImageFinish(reason=progress_pb2.IMAGE_FINISH_REASON_COMPLETED)
        if "waiting" in (request.prompt, request.model):
            self.live += 1
            self.begun.set()
            try:
                await self.interrupted.wait()
            finally:
                self.live -= 1
                self.left.set()
            finish.reason = progress_pb2.IMAGE_FINISH_REASON_INTERRUPTED
        effective = finish.effective_request
        effective.CopyFrom(request)
        effective.model = model
        effective.seed = request.seed if request.HasField("seed") and request.seed >= 0 else SEED
        effective.scheduler = request.scheduler or "automatic"
        effective.sampler = request.sampler or "Euler"
        effective.ClearField("init_images")
        effective.inpainting.ClearField("mask")
        count = (request.batch_size or 1) * (request.batch_count or 1)
        partials = request.partial_image_count
        finish.image_count = count
        infotexts: list[str] = []
        for index in range(count):
            seed = effective.seed + index
            infotexts.append(f"{request.prompt}\nSteps: {request.steps}, Seed: {seed}, Size: 16x8")
            data = picture(seed, infotexts[-1])
            if request.prompt == "huge":
                data += os.urandom(8 << 20)
            for number in range(partials):
                partial = progress_pb2.PartialImage(
                    index=index,
                    partial_index=number,
                    data=data,
                    mime_type="image/png",
                    width=16,
                    height=8,
                )
                yield progress_pb2.ImageEvent(partial=partial)
            image = image_pb2.Image(
                index=index,
                data=data,
                mime_type="image/png",
                width=16,
                height=8,
                seed=seed,
                infotext=infotexts[-1],
            )
            yield progress_pb2.ImageEvent(image=image)
        finish.info.update(
            {
                "prompt": request.prompt,
                "seed": effective.seed,
                "all_seeds": [effective.seed + index for index in range(count)],
                "cfg_scale": request.cfg_scale,
                "infotexts": infotexts,
                "face_restoration_model": None,
            }
        )
        finish.usage.CopyFrom(usage_pb2.Usage(prompt_tokens=7, total_tokens=7))
        yield progress_pb2.ImageEvent(finish=finish)

    async def Interrupt(self, request: Any, context: Any) -> Any:
        self.interrupted.set()
        return service_pb2.InterruptResponse(job_ids=["job-1"])

    async def Skip(self, request: Any, context: Any) -> Any:
        self.skips += 1
        return service_pb2.SkipResponse()

    async def GetProgress(self, request: service_pb2.GetProgressRequest, context: Any) -> Any:
        self.asked.append(request.job_id)
        answer = progress_pb2.Progress()
        answer.CopyFrom(self.progress)
        if request.skip_preview:
            answer.ClearField("preview")
        return answer

    async def ListSamplers(self, request: Any, context: Any) -> Any:
        euler = sampler_pb2.Sampler(
            name="Euler a", aliases=["k_euler_a"], options={"uses_ensd": "True"}
        )
        heun = sampler_pb2.Sampler(name="Heun")
        return service_pb2.ListSamplersResponse(
            samplers=await self._usable(request.model, [euler], [heun], context)
        )

    async def ListSchedulers(self, request: Any, context: Any) -> Any:
        karras = sampler_pb2.Scheduler(name="karras", label="Karras", default_rho=7.0)
        simple = sampler_pb2.Scheduler(name="simple", label="Simple", need_inner_model=True)
        return service_pb2.ListSchedulersResponse(
            schedulers=await self._usable(request.model, [karras], [simple], context)
        )

    async def _usable(
        self, model: str, first: list[Any], second: list[Any], context: Any
    ) -> list[Any]:
        """What a model can use: each has one of its own, and nobody's model none."""
        usable = {"": first + second, "first": first, "second": second}
        if model not in usable:
            await self._fail("fails-MODEL_NOT_FOUND-model", context)
        return usable[model]

    async def ListCheckpoints(self, request: Any, context: Any) -> Any:
        number = int(request.page_token or 0)
        page = service_pb2.ListCheckpointsResponse(checkpoints=[CHECKPOINTS[number]])
        if number + 1 < len(CHECKPOINTS):
            page.next_page_token = str(number + 1)
        return page

    async def GetOptions(self, request: Any, context: Any) -> Any:
        return self.options

    async def SetOptions(self, request: service_pb2.SetOptionsRequest, context: Any) -> Any:
        self.changes.append(request)
        model = request.options.model
        if "model" in request.update_mask.paths and model not in ("first", "second"):
            await self._fail("fails-MODEL_NOT_FOUND-options.model", context)
        request.update_mask.MergeMessage(request.options, self.options)
        return self.options

    async def ReadInfo(self, request: service_pb2.ReadInfoRequest, context: Any) -> Any:
        try:
            with Image.open(io.BytesIO(request.image)) as image:
                text = str(image.info.get("parameters", ""))
        except OSError:
            await self._fail("fails-INVALID_ARGUMENT-image", context)
            return empty_pb2.Empty()
        items = {"parameters": text} if text else {}
        return service_pb2.ReadInfoResponse(
            infotext=text, items=items, parameters={"Prompt": text.partition("\n")[0]}
        )

    async def _fail(self, prompt: str, context: Any) -> None:
        if not prompt.startswith("fails-"):
            return
        _, reason, *param = prompt.split("-")
        status = failure(reason, param[0] if param else None)
        details = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(CODES[reason], status.message, details)


def serve(peer: ImagePeer, server: grpc.aio.Server) -> None:
    image_service_pb2_grpc.add_ImageServiceServicer_to_server(peer, server)
