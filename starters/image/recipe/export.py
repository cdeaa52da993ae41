"""Writes a trained model as a complete Stable Diffusion pipeline."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import (
    AutoencoderTiny,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from starters.image.recipe.network import NOISE


def scheduler() -> DPMSolverMultistepScheduler:
    """The sampler that a user gets who asks for none."""
    return DPMSolverMultistepScheduler(**NOISE, timestep_spacing="trailing", steps_offset=1)


def export(
    folder: Path,
    vae: AutoencoderTiny,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
) -> None:
    """Writes the pipeline beside the folder and swaps it in, so that one is always there."""
    pipeline = StableDiffusionPipeline(
        vae=vae.to(torch.float16),
        unet=unet.to(torch.float16),
        text_encoder=text_encoder.to(torch.float16),
        tokenizer=tokenizer,
        scheduler=scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    fresh, old = (folder.with_name(f".{folder.name}.{name}") for name in ("new", "old"))
    for left in (fresh, old):
        shutil.rmtree(left, ignore_errors=True)
    pipeline.save_pretrained(fresh, safe_serialization=True)
    _without_doubles(fresh / "vae" / "config.json")
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _without_doubles(config: Path) -> None:
    """Leaves out a value that AutoencoderTiny derives, saves, and then warns of when it loads, and
    where it was trained."""
    told = json.loads(config.read_text())
    for name in ("block_out_channels", "_name_or_path"):
        told.pop(name, None)
    config.write_text(json.dumps(told, indent=2) + "\n")
