"""The folder of the starter image model: complete, small, and good for any text and size."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline, StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import CLIPTokenizer

from starters.image.recipe.colours import COLOURS
from starters.image.recipe.drawing import Drawing, render
from starters.image.recipe.network import NATIVE, NOISE
from starters.image.recipe.paths import MODEL, SHEET
from starters.image.recipe.scenes.figures import PLACES
from starters.image.recipe.shapes import NAMES, SHAPES, placed

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of diffusers and numpy

LARGEST = 25_000_000
PARTS = ("text_encoder", "unet", "vae")


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(MODEL / "tokenizer")


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Any]:
    made = StableDiffusionPipeline.from_pretrained(
        MODEL, use_safetensors=True, safety_checker=None, dtype=torch.float32
    )
    made.set_progress_bar_config(disable=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield made
    torch.set_num_threads(threads)


def test_weights_are_half_precision_safetensors_within_the_limit() -> None:
    files = sorted(MODEL.glob("*/*.safetensors"))
    assert [file.parent.name for file in files] == list(PARTS)
    assert sum(file.stat().st_size for file in files) <= LARGEST
    assert not [*MODEL.glob("**/*.bin"), *MODEL.glob("**/*.ckpt")]
    for file in files:
        with safe_open(file, "pt") as weights:
            for name in weights.keys():  # noqa: SIM118 (no mapping)
                values = weights.get_tensor(name)
                assert values.dtype == torch.float16
                assert values.isfinite().all(), name


def test_configuration_is_of_stable_diffusion() -> None:
    index = json.loads((MODEL / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    assert index["safety_checker"] == [None, None]
    unet = json.loads((MODEL / "unet" / "config.json").read_text())
    assert unet["sample_size"] == NATIVE
    scheduler = json.loads((MODEL / "scheduler" / "scheduler_config.json").read_text())
    assert {key: scheduler[key] for key in NOISE} == NOISE


@settings(max_examples=60)
@given(st.text(max_size=300))
def test_any_text_becomes_77_tokens(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text, padding="max_length", truncation=True, max_length=77).input_ids
    assert len(ids) == 77
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.eos_token_id not in ids[1 : ids.index(tokenizer.eos_token_id)]


def test_words_of_the_scenes_are_single_tokens(tokenizer: CLIPTokenizer) -> None:
    names = {name for shape in SHAPES for name in NAMES.get(shape, (shape,))}
    others = ("sunset", "mountains", "forest", "gradient", "background", "two")
    for word in (*COLOURS, *names, *others):
        if " " not in word:
            assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word


def test_latents_give_a_picture_back() -> None:
    vae = AutoencoderTiny.from_pretrained(MODEL / "vae", dtype=torch.float32)
    drawing = Drawing.on(COLOURS["blue"])
    drawing.polygon(COLOURS["yellow"], placed("star", *PLACES["in the top left"], 0.2))
    given = np.asarray(render(drawing, 256), dtype=np.float32)
    shown = torch.from_numpy(given / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        latents = vae.encode(shown).latents
        made = vae.decode(latents).sample
    assert latents.shape == (1, 4, 32, 32)
    assert abs(made - shown).mean() < 0.05
    assert 0.3 < (latents * vae.config.scaling_factor).std() < 3


@pytest.mark.parametrize(("wide", "high"), [(64, 64), (72, 104), (256, 128)])
def test_sizes_may_be_any_multiple_of_eight(pipeline: Any, wide: int, high: int) -> None:
    image = pipeline("a red circle on blue", width=wide, height=high, num_inference_steps=2).images
    assert image[0].size == (wide, high)


def test_the_same_seed_draws_the_same_picture(pipeline: Any) -> None:
    one, again, other = (
        pipeline(
            "a star",
            width=64,
            height=64,
            num_inference_steps=2,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]
        for seed in (1, 1, 2)
    )
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


@pytest.mark.parametrize("prompt", ["", "日本語 🍎 \x00", "word " * 400])
def test_any_prompt_is_drawn(pipeline: Any, prompt: str) -> None:
    assert pipeline(prompt, width=64, height=64, num_inference_steps=1).images[0].size == (64, 64)


def test_a_picture_can_be_worked_over(pipeline: Any) -> None:
    worker = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    worker.set_progress_bar_config(disable=True)
    start = render(Drawing.on(COLOURS["green"]), 128)
    image = worker("a heart", image=start, strength=0.5, num_inference_steps=4).images[0]
    assert image.size == (128, 128)


def test_the_sheet_of_samples_is_small() -> None:
    assert SHEET.stat().st_size < 1_000_000
