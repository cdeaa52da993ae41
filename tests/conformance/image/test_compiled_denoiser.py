"""`compile = true`: the denoiser that torch.compile makes draws what the one as it is draws."""

import asyncio
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from services.image.engine import ImageModel, ImageModelSpec, Plan
from services.image.engines.diffusers_engine import DiffusersModel
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_settings import DiffusersSettings
from tests.conformance.image.drawing import draw, drawing_of, plan_for
from tests.conformance.image.tiny_pipelines import SIDE, save

COMPILER = shutil.which("g++") or shutil.which("clang++")
Pair = tuple[DiffusersModel, DiffusersModel]
SETTINGS = DiffusersSettings(device="cpu", dtype="float32", batching="off", max_batch=2)

pytestmark = [
    pytest.mark.timeout(900),  # a shape takes a compiler some seconds, and many on a busy machine
    # The compiler's own modules warn of what they import.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def made(settings: DiffusersSettings, folders: Path) -> DiffusersModel:
    source = folders / "sd"
    if not source.is_dir():
        save("sd", folders)
    spec = ImageModelSpec("model", "1", source)
    return asyncio.run(DiffusersLoader(settings).load(spec, lambda _share: None))


@pytest.fixture
def pair(folders: Path, settings: DiffusersSettings) -> Iterator[Pair]:
    """As it is, and compiled."""
    plain = made(settings, folders)
    compiled = made(replace(settings, compile=True), folders)
    yield plain, compiled
    for model in (plain, compiled):
        asyncio.run(model.close())


@pytest.fixture
def settings() -> DiffusersSettings:
    return SETTINGS


def compilations() -> int:
    """Graphs that were compiled in this process."""
    from torch._dynamo import utils

    counters: Any = utils.counters
    return counters["stats"]["unique_graphs"]


async def pixels(model: ImageModel, plan: Plan, seed: int) -> Any:
    return np.asarray((await draw(model, plan, [drawing_of(seed)]))[0]).astype(int)


async def alike(pair: Pair, plan: Plan, seed: int = 1) -> None:
    plain, compiled = [await pixels(model, plan, seed) for model in pair]
    assert len(np.unique(plain)) > 2, "there is something to compare"
    difference = np.abs(plain - compiled)
    assert difference.max() <= 2, "equal but for rounding"
    assert difference.mean() < 0.1


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="torch.compile has no C++ compiler here")
async def test_what_is_compiled_draws_the_same(pair: Pair) -> None:
    plain, compiled = pair
    limits: Any = torch.compiler.config
    shapes = await compiled.on_thread(lambda _machine: limits.recompile_limit)
    assert shapes >= 256, "as many are compiled, on the thread that draws"
    assert plain.info.build != compiled.info.build, "their fingerprints differ"
    plan = plan_for(compiled, steps=2)
    before = compilations()
    first = (await draw(compiled, plan, [drawing_of(1)]))[0].tobytes()
    assert compilations() > before
    await alike(pair, plan)
    other = replace(plan, width=SIDE + 8)
    made = compilations()
    await alike(pair, other)
    assert compilations() > made, "each shape has its own kernels"
    made = compilations()
    again = (await draw(compiled, plan, [drawing_of(1)]))[0].tobytes()
    assert again == first, "whatever was drawn between"
    assert compilations() == made


@pytest.mark.gpu
class TestOnAGpu:
    """The same there, where pictures lie in memory in channels-last order."""

    @pytest.fixture
    def settings(self) -> DiffusersSettings:
        return replace(SETTINGS, device="cuda", dtype="bfloat16")

    async def test_what_is_compiled_draws_the_same(self, pair: Pair) -> None:
        plan = plan_for(pair[0], steps=2)
        found = [await pixels(model, plan, 1) for model in pair]
        assert np.abs(found[0] - found[1]).mean() < 3, "bfloat16 has two or three digits"

    async def test_weights_lie_in_channels_last_order(self, pair: Pair) -> None:
        def layouts(machine: Any) -> set[bool]:
            parts = (machine.pipelines.text.unet, machine.pipelines.text.vae)
            return {
                weight.is_contiguous(memory_format=torch.channels_last)
                for part in parts
                for weight in part.parameters()
                if weight.ndim == 4
            }

        assert await pair[0].on_thread(layouts) == {True}
