"""ImageService with a real, tiny pipeline: what is promised holds with the engine that draws."""

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from penstock.image.v1 import image_pb2, progress_pb2
from penstock.image.v1 import image_service_pb2 as pb
from PIL import Image

from services.image.engine import ImageModel, ImageModelSpec
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_settings import DiffusersSettings
from tests.conformance.image.tiny_pipelines import SIDE, save
from tests.integration.image.image_platform import (
    USER,
    USERS,
    Platform,
    events_of,
    files,
    metadata,
    platform_of,
    reason,
    request,
    served,
)

SETTINGS = DiffusersSettings(device="cpu", dtype="float32", torch_threads=1)
NAME = "sd"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    save(NAME, folder)
    return folder / NAME


def load(weights: Path, settings: DiffusersSettings = SETTINGS) -> ImageModel:
    spec = ImageModelSpec("tiny", "1", weights)
    return asyncio.run(DiffusersLoader(settings).load(spec, lambda _: None))


@pytest.fixture(scope="module")
def model(weights: Path) -> Iterator[ImageModel]:
    """It takes seconds to load: all tests share it."""
    threads = torch.get_num_threads()
    model = load(weights)
    yield model
    asyncio.run(model.close())
    torch.set_num_threads(threads)


class Loaded:
    """Gives the model that is loaded already."""

    def __init__(self, model: ImageModel) -> None:
        self._model = model

    async def load(self, spec: ImageModelSpec, progress: object) -> ImageModel:
        return self._model


@pytest.fixture
async def tiny(model: ImageModel, tmp_path: Path) -> AsyncIterator[Platform]:
    """Serves `tiny` beside the others."""
    async with platform_of(tmp_path, await served("tiny", Loaded(model))) as platform:
        yield platform


def drawn(platform: Platform, who: Any = USER, **more: Any) -> Any:
    return platform.image.Generate(request(**{"model": "tiny", "steps": 2} | more), metadata=who)


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


async def test_callers_who_draw_together_get_what_they_would_get_alone(tiny: Platform) -> None:
    alone = [await files(drawn(tiny, prompt=f"p {number}", seed=number)) for number in range(4)]
    assert len({one[0] for one in alone}) == 4
    together = await asyncio.gather(
        *(
            files(drawn(tiny, metadata(USERS[number]), prompt=f"p {number}", seed=number))
            for number in range(4)
        )
    )
    assert list(together) == alone
    batch = await drawn(tiny, prompt="a", seed=30, batch_size=2, batch_count=2)
    for image in batch.images:
        assert [image.data] == await files(drawn(tiny, prompt="a", seed=image.seed))


async def test_every_kind_of_drawing(tiny: Platform) -> None:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "red").save(file, "PNG")
    start = file.getvalue()
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    file = io.BytesIO()
    mask.save(file, "PNG")
    inpainting = image_pb2.Inpainting(mask=file.getvalue(), blur_pixels=0, full_resolution=False)
    seen: set[bytes] = set()
    for more in (
        {"negative_prompt": "b", "cfg_scale": 3.0},
        {"sampler": "DPM++ 2M Karras"},
        {"clip_skip": 2},
        {"tiling": True},
        {"variation": image_pb2.Variation(subseed=4, strength=0.5)},
        {"init_images": [start]},
        {"init_images": [start], "inpainting": inpainting, "denoising_strength": 1.0},
        {"hires": image_pb2.Hires(scale=2.0)},
    ):
        first, again = [await drawn(tiny, **more) for _ in range(2)]
        assert first.images[0].data == again.images[0].data
        seen.add(first.images[0].data)
        if "inpainting" in more:
            kept = opened(first.images[0].data).crop((SIDE // 2, 0, SIDE, SIDE))
            assert kept.getcolors() == [(SIDE * SIDE // 2, (255, 0, 0))]
        if "hires" in more:
            assert first.images[0].width == 2 * SIDE
    assert len(seen) == 8
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await drawn(tiny, clip_skip=12)
    assert reason(caught.value) == ("UNSUPPORTED_PARAMETER", "clip_skip")


async def test_watching_and_interrupting(tiny: Platform) -> None:
    whole = await files(drawn(tiny, steps=20))
    asked = request(
        model="tiny", steps=20, preview_interval_steps=1, partial_image_count=2, job_id="x"
    )
    events = await events_of(tiny.image.StreamGenerate(asked, metadata=USER))
    assert [event.data for kind, event in events if kind == "image"] == whole
    partials = [event for kind, event in events if kind == "partial"]
    assert [each.partial_index for each in partials] == [0, 1]
    assert opened(partials[1].data).size == (SIDE, SIDE)
    asked.batch_count, asked.steps = (
        12,
        50,
    )  # it can't be done before it is interrupted: its reader sees to that
    call = tiny.image.StreamGenerate(asked, metadata=USER)
    found: list[Any] = []
    while (event := await call.read()) is not grpc.aio.EOF:
        found.append(event)
        if event.HasField("progress") and event.progress.step >= 1 and len(found) < 100:
            interrupted = await tiny.image.Interrupt(pb.InterruptRequest(), metadata=USER)
            assert list(interrupted.job_ids) in (["x"], [])
    finish = found[-1].finish
    assert finish.reason == progress_pb2.IMAGE_FINISH_REASON_INTERRUPTED
    assert finish.image_count == sum(event.HasField("image") for event in found) < 12


async def test_a_restart_draws_the_same_bytes(
    tiny: Platform, weights: Path, tmp_path: Path
) -> None:
    async def answer(platform: Platform) -> tuple[list[bytes], str]:
        answer = await drawn(platform, prompt="the same", batch_size=2)
        return [image.data for image in answer.images], answer.finish.fingerprint

    before = await answer(tiny)
    again = await asyncio.to_thread(load, weights)
    async with platform_of(tmp_path, await served("tiny", Loaded(again))) as platform:
        assert await answer(platform) == before
    await again.close()


@pytest.mark.parametrize("changes", [{"torch_threads": 2}, {"batching": "any"}])
async def test_fingerprints_tell_of_what_may_change_bytes(
    model: ImageModel, weights: Path, changes: dict[str, Any]
) -> None:
    other = await asyncio.to_thread(load, weights, replace(SETTINGS, **changes))
    first, second = [await served("tiny", Loaded(one)) for one in (model, other)]
    assert first.fingerprint != second.fingerprint
    assert first.fingerprint == (await served("tiny", Loaded(model))).fingerprint
    for one in (first, second):
        await one.loaded.batcher.close()
    await other.close()
