"""Draws the scenes of training once and keeps their latents and tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from transformers import CLIPTokenizer

from starters.computing import fast
from starters.image.recipe.autoencoder import pixels
from starters.image.recipe.curriculum import SEED, sampled
from starters.image.recipe.schedule import Share
from starters.image.recipe.tokenizer import LENGTH

_BATCH = 16


@dataclass(frozen=True, slots=True)
class Album:
    """Scenes of one size, as the UNet sees them."""

    latents: Tensor
    tokens: Tensor
    empty: Tensor
    """The tokens of a caption that says nothing."""

    def batch(self, rng: Random, count: int) -> tuple[Tensor, Tensor]:
        """Some scenes at random."""
        chosen = torch.tensor([rng.randrange(len(self.latents)) for _ in range(count)])
        return self.latents[chosen].float(), self.tokens[chosen].long()


def album(folder: Path, share: Share, vae: AutoencoderTiny, tokenizer: CLIPTokenizer) -> Album:
    """The scenes of a share: the kept ones, or newly drawn ones where there are none."""
    path = folder / f"{share.name}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(_drawn(share, vae, tokenizer), path)
    kept = torch.load(path)
    empty = tokenizer("", padding="max_length", max_length=LENGTH, return_tensors="pt").input_ids
    return Album(kept["latents"], kept["tokens"], empty)


@torch.inference_mode()
def _drawn(share: Share, vae: AutoencoderTiny, tokenizer: CLIPTokenizer) -> dict[str, Tensor]:
    began, rng = time.monotonic(), Random(f"{SEED} album {share.name}")
    size, count = share.size, share.scenes
    seeds = [rng.getrandbits(60) for _ in range(count)]
    captions = [sampled(Random(seed), share.kinds).caption for seed in seeds]
    tokens = tokenizer(
        captions, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    ).input_ids
    latents = torch.empty(count, 4, size // 8, size // 8, dtype=torch.float16)
    for start in range(0, count, _BATCH):
        pictures = torch.stack(
            [pixels(seed, size, share.kinds) for seed in seeds[start : start + _BATCH]]
        )
        with fast():
            made = vae.encode(pictures.contiguous(memory_format=torch.channels_last)).latents
        latents[start : start + _BATCH] = made.float() * vae.config.scaling_factor
    print(f"{count} scenes of {share.name} in {time.monotonic() - began:.0f}s", flush=True)
    return {"latents": latents, "tokens": tokens.to(torch.int16)}


@torch.inference_mode()
def scaled(vae: AutoencoderTiny) -> AutoencoderTiny:
    """Sets the factor that gives latents a variance of one."""
    pictures = torch.stack([pixels(seed, 256) for seed in range(192)])
    spread = vae.encode(pictures).latents.std().item()
    vae.register_to_config(scaling_factor=round(1 / spread, 4))
    return vae
