"""The starter model, once it has been trained: the same bytes alone, in batches, after restarts."""

import asyncio
from pathlib import Path

import pytest

from services.image.engine import ImageModel, ImageModelSpec, Mode
from services.image.engines.diffusers_loader import DiffusersLoader
from services.image.engines.diffusers_settings import DiffusersSettings
from tests.conformance.image.drawing import draw, draw_one, drawing_of, initial, plan_for

FOLDER = Path(__file__).parents[3] / "starters" / "image" / "model"

pytestmark = pytest.mark.skipif(
    not (FOLDER / "model_index.json").is_file(), reason="the starter model is not there"
)


def load() -> ImageModel:
    loader = DiffusersLoader(DiffusersSettings(device="cpu", max_batch=2))
    return asyncio.run(loader.load(ImageModelSpec("starter", "1", FOLDER), lambda _share: None))


def test_the_starter_model_draws_the_same_bytes() -> None:
    async def all_ways(model: ImageModel) -> list[list[bytes]]:
        try:
            plan = plan_for(model, width=128, height=128, steps=2)
            redrawn = plan_for(
                model, width=128, height=128, steps=2, mode=Mode.IMAGE, denoising_strength=0.5
            )
            found: list[list[bytes]] = []
            for way, given in ((plan, {}), (redrawn, {"initial": initial((128, 128))})):
                drawings = [drawing_of(seed, **given) for seed in (1, 2)]
                together = await draw(model, way, drawings)
                alone = [await draw_one(model, way, drawing) for drawing in drawings]
                assert [picture.tobytes() for picture in together] == alone
                assert len(set(alone)) == 2
                found.append(alone)
            return found
        finally:
            await model.close()

    assert asyncio.run(all_ways(load())) == asyncio.run(all_ways(load()))
