"""Trains the autoencoder: 8 by 8 pixels become four numbers, the first three close to a colour.

python -m starters.image.recipe.autoencoder
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

from starters.computing import fast, keep_memory
from starters.image.recipe.curriculum import SEED, SHARES, sampled
from starters.image.recipe.drawing import render
from starters.image.recipe.paths import AUTOENCODER
from starters.image.recipe.training import Average, rate

_WIDTH: Final = 32
_CROP: Final = 128
_SCENES: Final = 16
_CROPS_EACH: Final = 2
_SIZES: Final = (192, 256, 320, 512, 512, 512, 640)
_BRIGHTNESS: Final = 1.3


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the training, and the weights of what it lowers."""

    steps: int
    peak: float
    noise: float
    """How much noise the decoder must see through, at most."""
    edges: float
    tie: float
    """How strongly the first three numbers are held to the mean colour."""
    shrink: float


PHASES: Final = (
    Phase(1800, 2e-3, noise=0.15, edges=0.5, tie=0.05, shrink=0.002),
    Phase(900, 1.5e-3, noise=0.05, edges=1.0, tie=0.02, shrink=0.0),
)
"""First smooth latents, then sharp edges."""


def autoencoder() -> AutoencoderTiny:
    """An untrained autoencoder whose pictures are eight times as wide as its latents."""
    return AutoencoderTiny(
        encoder_block_out_channels=(_WIDTH,) * 4,
        decoder_block_out_channels=(_WIDTH,) * 4,
        num_encoder_blocks=(0, 1, 2, 3),
        num_decoder_blocks=(3, 2, 1, 1),
    )


def pixels(scene_seed: int, size: int, shares: Mapping[str, float] = SHARES) -> Tensor:
    """A training scene as a picture with values from -1 to 1."""
    image = render(sampled(Random(scene_seed), shares).drawing, size)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1


def crops(step: int) -> Tensor:
    """A batch of cut-outs of fresh scenes; a pure function of the step."""
    rng = Random(f"{SEED} crops {step}")
    made: list[Tensor] = []
    for _ in range(_SCENES):
        size = rng.choice(_SIZES)
        picture = pixels(rng.getrandbits(60), size)
        for _ in range(_CROPS_EACH):
            made.append(_crop(rng, picture))
    return torch.stack(made).contiguous(memory_format=torch.channels_last)


def _crop(rng: Random, picture: Tensor) -> Tensor:
    room = picture.shape[1] - _CROP + 1
    x, y = rng.randrange(room), rng.randrange(room)
    return picture[:, y : y + _CROP, x : x + _CROP]


def loss(
    model: AutoencoderTiny, batch: Tensor, phase: Phase, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """What training lowers, and the mean error of a pixel in it."""
    latents = model.encode(batch).latents.float()
    strength = torch.rand(len(batch), 1, 1, 1, generator=noise) * phase.noise
    noisy = latents + strength * torch.randn(latents.shape, generator=noise)
    made = model.decode(noisy.to(memory_format=torch.channels_last)).sample.float()
    error = functional.l1_loss(made, batch)
    edges = sum(functional.l1_loss(made.diff(dim=axis), batch.diff(dim=axis)) for axis in (2, 3))
    colours = functional.avg_pool2d(batch, 8) * _BRIGHTNESS
    tie = functional.mse_loss(latents[:, :3], colours)
    shrink = latents[:, 3].square().mean()
    return error + phase.edges * edges + phase.tie * tie + phase.shrink * shrink, error


def train(folder: Path = AUTOENCODER) -> None:
    """Trains through all phases, from the one after the last that was finished."""
    torch.manual_seed(SEED)
    model, first = autoencoder(), 0
    for number in range(len(PHASES)):
        if (_finished(folder, number) / "config.json").exists():
            model, first = AutoencoderTiny.from_pretrained(_finished(folder, number)), number + 1
    model = model.to(memory_format=torch.channels_last).train()
    for number in range(first, len(PHASES)):
        _phase(model, number).save_pretrained(_finished(folder, number))
    model.save_pretrained(folder)


def _finished(folder: Path, number: int) -> Path:
    return folder / f"phase{number}"


def _phase(model: AutoencoderTiny, number: int) -> AutoencoderTiny:
    """Trains through a phase and loads the average of its weights."""
    phase, before = PHASES[number], sum(phase.steps for phase in PHASES[:number])
    noise = torch.Generator().manual_seed(SEED + number)
    average = Average(model, 0.995)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=1e-3)
    began, errors = time.monotonic(), []
    for step in range(phase.steps):
        for group in optimizer.param_groups:
            group["lr"] = phase.peak * rate(step, phase.steps, warm=100)
        with fast():
            lowered, error = loss(model, crops(before + step), phase, noise)
        lowered.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        average.update(step)
        errors.append(error.item())
        if step % 25 == 24:
            spent = time.monotonic() - began
            print(f"{step + 1} error {np.mean(errors[-25:]):.4f} {spent:.0f}s", flush=True)
    return average.into(model)


if __name__ == "__main__":
    torch.set_num_threads(2)
    keep_memory()
    train()
