"""Prompts in pieces and with weights, on tiny pipelines that CLIP reads for."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoPipelineForText2Image

from services.image.engine import ImageModel, Plan
from tests.conformance.image.drawing import draw, draw_one, drawing_of, plan_for
from tests.conformance.image.tiny_pipelines import SIDE

LONG = ", ".join(["a red circle", "some blue square"] * 8)
"""More than 75 tokens, for the tiny tokenizers have one for each letter."""


@pytest.fixture(params=["sd", "xl"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def plan(model: ImageModel, *prompts: str, weighs_words: bool = False) -> Plan:
    pieces = max(model.measure(text, weighs_words=weighs_words).pieces for text in prompts)
    return replace(plan_for(model), prompt_pieces=pieces)


async def drawn(
    model: ImageModel, prompt: str, *, weighs: bool = False, negative: str = ""
) -> bytes:
    how = plan(model, prompt, negative, weighs_words=weighs)
    wanted = drawing_of(prompt=prompt, negative_prompt=negative, weighs_words=weighs)
    return await draw_one(model, how, wanted)


async def test_the_end_of_a_long_prompt_counts(model: ImageModel) -> None:
    assert plan(model, LONG).prompt_pieces > 2
    assert await drawn(model, LONG) != await drawn(model, LONG[:-1] + "x")
    assert await drawn(model, "a", negative=LONG) != await drawn(model, "a", negative=LONG[:-1])


async def test_commas_end_pieces(model: ImageModel) -> None:
    cut = "a" * 60 + ", " + "b" * 30
    assert await drawn(model, cut) == await drawn(
        model, "a" * 60 + ", BREAK " + "b" * 30, weighs=True
    )


async def test_weights_count(model: ImageModel) -> None:
    plainly = await drawn(model, "a red circle")
    assert await drawn(model, "a red circle", weighs=True) == plainly
    assert await drawn(model, "a (red:1.0) circle", weighs=True) == plainly
    assert await drawn(model, "a (red:1.6) circle", weighs=True) != plainly
    assert await drawn(model, "a (red:1.6) circle") != await drawn(
        model, "a (red:1.6) circle", weighs=True
    )


async def test_weighed_and_plain_prompts_are_drawn_together(model: ImageModel) -> None:
    """The same words twice: one of them weighed, each as it is alone."""
    words = "a (red:1.6) circle"
    how = plan(model, words)
    drawings = [drawing_of(prompt=words, weighs_words=weighs) for weighs in (True, False)]
    alone = [await draw_one(model, how, one) for one in drawings]
    assert alone[0] != alone[1]
    assert [one.tobytes() for one in await draw(model, how, drawings)] == alone


@pytest.mark.parametrize("clip_skip", [1, 2])
async def test_short_prompts_are_read_as_diffusers_reads_them(
    model: ImageModel, name: str, folders: Path, clip_skip: int
) -> None:
    guidance = 5.0 if clip_skip == 1 else 1.0

    def plainly() -> bytes:
        pipeline = AutoPipelineForText2Image.from_pretrained(folders / name, local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        # Where the library looks for the last layer, and transformers 5 has it no more.
        object.__setattr__(pipeline.text_encoder, "text_model", pipeline.text_encoder)
        return (
            pipeline(
                "a circle, red",
                # Where layers are skipped, the library reads what to avoid to the last one still.
                negative_prompt="a square" if clip_skip == 1 else None,
                width=SIDE,
                height=SIDE,
                num_inference_steps=4,
                guidance_scale=guidance,
                clip_skip=clip_skip - 1 or None,
                generator=torch.Generator().manual_seed(3),
            )
            .images[0]
            .tobytes()
        )

    how = replace(plan_for(model, steps=4), clip_skip=clip_skip, cfg_scale=guidance)
    wanted = drawing_of(3, prompt="a circle, red", negative_prompt="a square")
    assert await draw_one(model, how, wanted) == await asyncio.to_thread(plainly)
