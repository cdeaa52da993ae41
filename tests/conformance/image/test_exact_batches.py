"""An image is the same alone and together, to the byte: whatever makes other kernels run."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.image.engine import ImageModel, ImageModelSpec, Plan
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_settings import DiffusersSettings
from tests.conformance.image.drawing import draw, draw_one, drawing_of, plan_for
from tests.conformance.image.tiny_pipelines import PIPELINES, save

SETTINGS = DiffusersSettings(device="cpu", dtype="float32", max_batch=8)
LONG = "a red circle, a blue square, " * 8
"""Read in three pieces and more: the tiny tokenizers have a token for each letter."""


@pytest.fixture(scope="module")
def loaded() -> Iterator[dict[str, ImageModel]]:
    found: dict[str, ImageModel] = {}
    yield found
    for one in found.values():
        asyncio.run(one.close())


@pytest.fixture(params=["sd", "xl", pytest.param("sd3", marks=pytest.mark.slow), "flux"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str, folders: Path, loaded: dict[str, ImageModel]) -> ImageModel:
    """One that draws up to eight together, shared by all tests of this module."""
    assert name in PIPELINES
    if name not in loaded:
        if not (folders / name).is_dir():
            save(name, folders)
        spec = ImageModelSpec("model", "1", folders / name)
        loaded[name] = asyncio.run(DiffusersLoader(SETTINGS).load(spec, lambda _share: None))
    return loaded[name]


def plans(model: ImageModel) -> dict[str, tuple[Plan, str]]:
    """Plans and prompts by what is special of them; the plain one stands between the others, so
    that what was seen of one may not be taken for another."""
    plain = plan_for(model, steps=1)
    found = {"plain": (plain, "a circle")}
    if model.info.max_prompt_pieces > 1:
        pieces = model.measure(f"{LONG} 7").pieces
        assert pieces > 2
        found["long"] = replace(plain, prompt_pieces=pieces), LONG
    if model.info.tiling:
        found["tiling"] = replace(plain, tiling=True), "a circle"
    multiple = model.info.size_multiple
    found["odd"] = replace(plain, width=5 * multiple, height=3 * multiple), "a circle"
    found["unguided"] = replace(plain, cfg_scale=1.0), "a circle"
    return found


def drawings(prompt: str, count: int) -> list[Any]:
    return [drawing_of(seed, prompt=f"{prompt} {seed}") for seed in range(count)]


async def test_batches_of_every_kind_are_made_of_single_images(model: ImageModel) -> None:
    ways = plans(model)
    alone = {
        what: [await draw_one(model, plan, one) for one in drawings(prompt, 8)]
        for what, (plan, prompt) in ways.items()
    }
    assert all(len(set(found)) == 8 for found in alone.values())
    for _ in range(2):  # at first groups are compared, then they are trusted
        for count in (8, 3):
            for what, (plan, prompt) in ways.items():
                together = await draw(model, plan, drawings(prompt, count))
                found = [picture.tobytes() for picture in together]
                assert found == alone[what][:count], (what, count)
