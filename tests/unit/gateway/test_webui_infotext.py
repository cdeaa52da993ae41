"""What the service writes into an infotext, the edge reads back: nothing of it is dropped."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from gateway.dialects.webui.infotext import fields_of
from services.image.pictures.infotext import (
    Facts,
    HiresFacts,
    InpaintFacts,
    TuningFacts,
    VariationFacts,
    parse_infotext,
    write_infotext,
)

HIRES = HiresFacts(
    upscaler="Lanczos",
    scale=1.5,
    steps=7,
    prompt="more, light",
    negative_prompt="dark",
    sampler="Heun",
    scheduler="Karras",
    cfg_scale=4.5,
)
EVERYTHING = Facts(
    prompt="a cat",
    negative_prompt="a dog",
    steps=12,
    sampler="DDIM",
    scheduler="Uniform",
    cfg_scale=6.5,
    seed=99,
    width=256,
    height=128,
    model_hash="0123456789",
    model="starter",
    vae="a vae",
    variation=VariationFacts(5, 0.5, 64, 32),
    denoising_strength=0.4,
    clip_skip=2,
    tiling=True,
    inpaint=InpaintFacts(9, True, True, 3, "latent noise"),
    hires=HIRES,
    tuning=TuningFacts(0.5, 0.25, 0.125, 2.0, 0.75, 1.5, 0.9),
    version="v1",
)
RESIZED = replace(EVERYTHING, hires=replace(HIRES, scale=None, width=512, height=256))
ONLY_TOLD = {"Version"}
"""It says what wrote the file, and nothing of the drawing."""


def entries_of(facts: Facts) -> dict[str, str]:
    found = parse_infotext(write_infotext(facts))
    sizes = {f"{key}-{side}" for key in found for side in (1, 2)}
    return {key: value for key, value in found.items() if key not in sizes | {"Prompt"}}


def text_of(entries: dict[str, str]) -> str:
    said = ", ".join(
        f"{key}: {json.dumps(value)}" for key, value in entries.items() if key != "Negative prompt"
    )
    return f"a cat\nNegative prompt: {entries.get('Negative prompt', '')}\n{said}"


@pytest.mark.parametrize("facts", [EVERYTHING, RESIZED])
def test_no_entry_is_dropped(facts: Facts) -> None:
    entries = entries_of(facts)
    whole = fields_of(text_of(entries))
    assert whole == fields_of(write_infotext(facts))
    ignored = {
        key
        for key in entries
        if fields_of(text_of({other: entries[other] for other in entries if other != key})) == whole
    }
    assert ignored == ONLY_TOLD


def test_values() -> None:
    found = fields_of(write_infotext(EVERYTHING))
    assert (found["hr_cfg"], found["hr_scale"], found["enable_hr"]) == (4.5, 1.5, True)
    assert (found["eta"], found["s_min_uncond"]) == (0.5, 1.5)
    assert found["initial_noise_multiplier"] == 0.9
    assert (found["inpainting_fill"], found["inpainting_mask_invert"]) == (2, 1)
    assert found["override_settings"]["sd_vae"] == "a vae"


def test_what_is_not_said_is_what_the_service_leaves_out() -> None:
    """A default of requests would be another drawing: they fill under the mask, for one."""
    plain = replace(EVERYTHING, inpaint=InpaintFacts(4, False, False, 0), clip_skip=1)
    found = fields_of(write_infotext(plain))
    assert (found["inpainting_fill"], found["inpainting_mask_invert"]) == (1, 0)
    assert found["inpaint_full_res"] is False
    assert found["override_settings"]["CLIP_stop_at_last_layers"] == 1
