"""Requests that wait together are one batch of the engine: counted where the engine calculates."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from penstock.image.v1 import image_pb2, progress_pb2

from services.image.engine import ImageModelSpec
from services.image.engines.diffusers_engine import DiffusersModel
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_machine import Machine
from services.image.engines.diffusers_settings import DiffusersSettings
from services.image.loading import Serving
from tests.conformance.image.tiny_pipelines import save
from tests.integration.image.image_platform import (
    USERS,
    VERSION,
    Platform,
    files,
    metadata,
    platform_of,
    reaches,
    request,
    served,
)

SETTINGS = DiffusersSettings(device="cpu", dtype="float32", batching="any", torch_threads=1)
WEIGHTED = image_pb2.PROMPT_SYNTAX_WEIGHTED
STEPS = 3


class Loader:
    """Gives the model that is loaded already."""

    def __init__(self, model: DiffusersModel) -> None:
        self._model = model

    async def load(self, spec: ImageModelSpec, progress: object) -> DiffusersModel:
        return self._model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DiffusersModel]:
    folder, threads = tmp_path_factory.mktemp("weights"), torch.get_num_threads()
    spec = ImageModelSpec("tiny", "1", save("sd", folder))
    model = asyncio.run(DiffusersLoader(SETTINGS).load(spec, lambda _: None))
    yield model
    asyncio.run(model.close())
    torch.set_num_threads(threads)


class World:
    """A service with a tiny pipeline, and what its denoiser was given."""

    def __init__(self, platform: Platform, model: DiffusersModel) -> None:
        self.platform = platform
        self.rows: list[int] = []
        """Of each evaluation of the denoiser; with guidance, two for each drawing."""
        self._model = model
        self._held = threading.Event()
        self._open = threading.Event()

    def watched(self, machine: Machine) -> Any:
        """Looks at what the denoiser's first layer is given."""

        def seen(_module: object, _inputs: object, output: torch.Tensor) -> None:
            self.rows.append(int(output.shape[0]))

        return machine.pipelines.denoiser.conv_in.register_forward_hook(seen)

    async def together(self, *asked: image_pb2.ImageRequest) -> list[bytes]:
        """What callers get who wait together, each for itself: the engine is busy until all do."""

        def hold(_machine: Machine) -> None:
            self._held.set()
            assert self._open.wait(60)

        holding = asyncio.create_task(self._model.on_thread(hold))
        await asyncio.to_thread(self._held.wait, 60)
        first = asyncio.create_task(self._drawn(request("first", model="tiny", job_id="first"), 0))
        await reaches(self.platform, "first", progress_pb2.Progress.STATE_RUNNING)
        calls: list[asyncio.Task[list[bytes]]] = []
        for number, one in enumerate(asked):
            one.job_id = f"job-{number}"
            calls.append(asyncio.create_task(self._drawn(one, 1 + number)))
            await reaches(self.platform, one.job_id, progress_pb2.Progress.STATE_QUEUED)
        self._open.set()
        await holding
        await first
        del self.rows[:4]  # of the first's four steps
        return [file for found in await asyncio.gather(*calls) for file in found]

    async def _drawn(self, asked: image_pb2.ImageRequest, who: int) -> list[bytes]:
        return await files(self.platform.image.Generate(asked, metadata=metadata(USERS[who])))


@pytest.fixture
async def world(model: DiffusersModel, tmp_path: Path) -> AsyncIterator[World]:
    tiny = await served("tiny", Loader(model), Serving(version=VERSION))
    async with platform_of(tmp_path, tiny) as platform:
        world = World(platform, model)
        hook = await model.on_thread(world.watched)
        yield world
        await model.on_thread(lambda _: hook.remove())


def asked(seed: int, **more: Any) -> image_pb2.ImageRequest:
    return request(**{"prompt": f"p {seed}", "model": "tiny", "steps": STEPS, "seed": seed} | more)


async def test_callers_who_wait_together_are_drawn_in_one_pass(world: World) -> None:
    found = await world.together(asked(1), asked(2), asked(3, batch_size=2))
    assert world.rows == [2 * 4] * STEPS, "each step was calculated once, for all four"
    assert len(set(found)) == 4


async def test_words_that_are_weighed_part_nobody(world: World) -> None:
    """WebUI clients weigh words, others don't: the drawings of both are one batch."""
    found = await world.together(
        asked(1, prompt="a (b:1.5)", prompt_syntax=WEIGHTED), asked(1, prompt="a (b:1.5)"), asked(2)
    )
    assert world.rows == [2 * 3] * STEPS
    assert len(set(found)) == 3, "the brackets mean something in one of them only"


async def test_other_plans_wait_for_their_own_pass(world: World) -> None:
    await world.together(asked(1), asked(2, steps=STEPS + 1), asked(3), asked(4, steps=STEPS + 1))
    assert world.rows == [4] * STEPS + [4] * (STEPS + 1)


async def test_prompts_in_more_pieces_wait_for_their_own_pass(world: World) -> None:
    """A longer text is another input: what is padded to it would come out otherwise."""
    long = ", ".join(["some words"] * 30)
    await world.together(asked(1), asked(2, prompt=long), asked(3))
    assert world.rows == [4] * STEPS + [2] * STEPS
