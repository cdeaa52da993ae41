"""Teaches the inner half of the UNet what goes where, on pictures sixteen latents wide.

Text and layout meet in the UNet's two smallest levels, which see a 512-pixel picture as 16 by 16
and 8 by 8. Here those levels learn alone, on pooled latents with the noise that pooling leaves,
many times faster than inside the whole. The two outer levels are then put around them.
"""

from __future__ import annotations

import time
from pathlib import Path
from random import Random
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from starters.computing import fast
from starters.image.recipe.curriculum import SEED
from starters.image.recipe.latents import Album
from starters.image.recipe.network import NATIVE, Painter
from starters.image.recipe.tokenizer import LENGTH
from starters.image.recipe.training import Average, Optimizer, rate

STEPS: Final = 3200
_BATCH: Final = 128
_SIDE: Final = 16
_FINER: Final = 2
_SHORT: Final = 30
_WHOLE_EVERY: Final = 5
_DROWNED: Final = 0.55
_PEAKS: Final = (0.015, 1.5e-3)
_SILENT: Final = 0.1
_KEEP: Final = 0.99
_EDGES: Final = ("entry", "exit", "embedding")
OUTER: Final = (
    "conv_in",
    "conv_out",
    "down_blocks.0",
    "down_blocks.1",
    "up_blocks.1.upsamplers",
    "up_blocks.2",
    "up_blocks.3",
    "conv_norm_out",
)
"""Parts of the UNet that sketching leaves as they are."""


class Sketcher(nn.Module):
    """The inner levels of a painter's UNet with an entry and an exit of their own."""

    def __init__(self, painter: Painter) -> None:
        super().__init__()
        self.painter = painter
        unet = painter.unet
        wide = unet.config.block_out_channels
        self.entry = nn.Conv2d(4, wide[1], 3, padding=1)
        self.exit_norm = nn.GroupNorm(16, wide[2])
        self.exit = nn.Conv2d(wide[2], 4 + 4 * _FINER**2, 3, padding=1)
        for name, weight in unet.named_parameters():
            weight.requires_grad_(not name.startswith(OUTER))

    def forward(self, noisy: Tensor, times: Tensor, words: Tensor) -> Tensor:
        """What is to be predicted, and the clean picture with its finer parts as channels."""
        unet = self.painter.unet
        when = unet.time_embedding(unet.time_proj(times).to(words.dtype))
        hidden = self.entry(noisy)
        kept = [hidden]
        hidden, made = unet.down_blocks[2](hidden_states=hidden, temb=when)
        kept += made
        hidden, made = unet.down_blocks[3](
            hidden_states=hidden, temb=when, encoder_hidden_states=words
        )
        kept += made
        hidden = unet.mid_block(hidden, when, encoder_hidden_states=words)
        hidden = unet.up_blocks[0](
            hidden_states=hidden,
            res_hidden_states_tuple=tuple(kept[-2:]),
            temb=when,
            encoder_hidden_states=words,
        )
        for resnet, kept_one in zip(unet.up_blocks[1].resnets, kept[-3::-1], strict=True):
            hidden = resnet(torch.cat([hidden, kept_one], dim=1), when)
        return self.exit(functional.silu(self.exit_norm(hidden)))

    def loss(self, latents: Tensor, tokens: Tensor, noise: torch.Generator) -> Tensor:
        """The error in what is predicted of pooled latents, and in the picture twice as wide."""
        fine = functional.adaptive_avg_pool2d(latents, _SIDE * _FINER)
        clean = functional.avg_pool2d(fine, _FINER)
        times = self.painter.levels(len(latents), _DROWNED, noise)
        noisy, told = self.painter.drowned(clean, times, noise, grain_size=_SIDE / NATIVE)
        words = self.painter.text_encoder(tokens).last_hidden_state
        made = self(noisy, times, words).float()
        wanted, shown = made[:, :4], functional.pixel_shuffle(made[:, 4:], _FINER)
        return functional.mse_loss(wanted, told) + functional.mse_loss(shown, fine)


def sketched(path: Path, album: Album, painter: Painter, steps: int = STEPS) -> nn.Conv2d:
    """Gives a painter inner levels that can sketch, and returns the entry they learnt with."""
    if not path.exists():
        _teach(path, album, painter, steps)
    kept = torch.load(path)
    painter.load_state_dict(kept["painter"])
    entry = Sketcher(painter).entry
    entry.load_state_dict({name: kept["doors"][f"entry.{name}"] for name in entry.state_dict()})
    painter.requires_grad_(True)
    return entry


def _teach(path: Path, album: Album, painter: Painter, steps: int) -> None:
    torch.manual_seed(SEED)
    sketcher = Sketcher(painter).to(memory_format=torch.channels_last).train()
    optimizer, average = Optimizer(sketcher, _EDGES, _PEAKS), Average(sketcher, _KEEP)
    noise, losses, began = torch.Generator(), list[float](), time.monotonic()
    for step in range(steps):
        latents, tokens = album.batch(rng := Random(f"{SEED} sketch {step}"), _BATCH)
        tokens[torch.tensor([rng.random() < _SILENT for _ in range(_BATCH)])] = album.empty
        length = LENGTH if step % _WHOLE_EVERY == 0 else _SHORT
        noise.manual_seed(SEED + step)
        with fast():
            loss = sketcher.loss(latents, tokens[:, :length], noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(sketcher.parameters(), 1.0)
        optimizer.step(_share(step, steps))
        average.update(step)
        losses.append(loss.item())
        if step % 20 == 19:
            spent = time.monotonic() - began
            print(
                f"sketching {step + 1}/{steps} loss {sum(losses[-20:]) / 20:.4f} {spent:.0f}s",
                flush=True,
            )
        if step % 100 == 99 or step == steps - 1:
            weights = average.weights
            torch.save(
                {
                    "painter": {
                        name.removeprefix("painter."): value
                        for name, value in weights.items()
                        if name.startswith("painter.")
                    },
                    "doors": {k: v for k, v in weights.items() if not k.startswith("painter.")},
                },
                path.with_suffix(".new"),
            )
            path.with_suffix(".new").rename(path)


def _share(step: int, steps: int) -> float:
    """The share of the peak rates: even for the first half, then falling."""
    half = steps // 2
    return (
        rate(step, 10**9, warm=30)
        if step < half
        else rate(step - half, steps - half, warm=1, floor=0.05)
    )
