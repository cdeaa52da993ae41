"""Teaches the text encoder to read before the UNet listens to it.

Cross-attention begins as a plain mean over all 77 tokens, most of them padding. Here that mean
learns to tell what the caption's picture looks like, coarsely, and which words the caption has.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from starters.computing import fast
from starters.image.recipe.curriculum import SEED
from starters.image.recipe.latents import Album
from starters.image.recipe.network import text_encoder
from starters.image.recipe.tokenizer import LENGTH
from starters.image.recipe.training import rate

STEPS: Final = 1200
_BATCH: Final = 96
_SHORT: Final = 30
_WHOLE_EVERY: Final = 6
_PEAK: Final = 1.5e-3
_COARSE: Final = 16
_WORDS: Final = 20.0


class Reader(nn.Module):
    """The text encoder with two heads that only this training needs."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        wide = encoder.config.hidden_size
        self.encoder = encoder
        self.words = nn.Linear(wide, encoder.config.vocab_size)
        self.picture = nn.Sequential(
            nn.Linear(wide, 512), nn.GELU(), nn.Linear(512, 4 * _COARSE * _COARSE)
        )

    def losses(self, latents: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The errors in the picture and in the words told from the mean of the states."""
        mean = self.encoder(tokens).last_hidden_state.mean(dim=1)
        coarse = functional.adaptive_avg_pool2d(latents, _COARSE).flatten(1)
        present = torch.zeros(len(tokens), self.words.out_features).scatter_(1, tokens, 1.0)
        told = functional.binary_cross_entropy_with_logits(self.words(mean).float(), present)
        return functional.mse_loss(self.picture(mean).float(), coarse), told


def taught(folder: Path, album: Album, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder that can read: the kept one, or a newly taught one where there is none."""
    if not (folder / "config.json").exists():
        _teach(album, tokenizer).save_pretrained(folder)
    return CLIPTextModel.from_pretrained(folder)


def _teach(album: Album, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    torch.manual_seed(SEED)
    reader = Reader(text_encoder(tokenizer)).train()
    reader.encoder.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(
        reader.parameters(), _PEAK, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    began = time.monotonic()
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _PEAK * rate(step, STEPS, warm=100, floor=0.1)
        latents, tokens = album.batch(Random(f"{SEED} reading {step}"), _BATCH)
        length = LENGTH if step % _WHOLE_EVERY == 0 else _SHORT
        with fast():
            picture, words = reader.losses(latents, tokens[:, :length])
        (picture + _WORDS * words).backward()
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 49:
            spent = time.monotonic() - began
            print(
                f"reading {step + 1}/{STEPS} picture {picture.item():.3f} words "
                f"{words.item():.4f} {spent:.0f}s",
                flush=True,
            )
    return reader.encoder
