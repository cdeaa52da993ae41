"""Trains penstock-starter-image from nothing, or goes on from the last checkpoint.

python -m starters.image.recipe.train
python -m starters.image.recipe.train --finish    # the last phase alone, from the shipped weights
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from starters.computing import fast, keep_memory
from starters.image.recipe import autoencoder
from starters.image.recipe.curriculum import SEED
from starters.image.recipe.export import export
from starters.image.recipe.joining import calmed, joined
from starters.image.recipe.latents import Album, album, scaled
from starters.image.recipe.network import Painter, text_encoder, unet
from starters.image.recipe.paths import (
    AUTOENCODER,
    CHECKPOINT,
    LATENTS,
    MODEL,
    READER,
    SKETCH,
    TOKENIZER,
)
from starters.image.recipe.reading import taught
from starters.image.recipe.schedule import (
    NATIVE_SHARE,
    SMALL,
    Phase,
    phase_of,
    share_of_peak,
    steps,
    unfinished,
)
from starters.image.recipe.sketching import OUTER, sketched
from starters.image.recipe.tokenizer import tokenizer
from starters.image.recipe.training import Average, Optimizer

_PEAKS: Final = (0.004, 2e-3)
_EDGES: Final = ("conv_in", "conv_out", "embedding")
_NEW: Final = tuple(f"unet.{name}" for name in OUTER)
_SKETCHED: Final = 0.2
"""The share of the rates at which what has learnt to sketch goes on."""
_CALMED: Final = 8
_SILENT: Final = 0.1
_KEEP: Final = 0.99
_SAVE_EVERY: Final = 50
_TELL_EVERY: Final = 25


@dataclass(slots=True)
class Training:
    """Everything that a step needs."""

    painter: Painter
    average: Average
    optimizer: Optimizer
    vae: AutoencoderTiny
    tokenizer: CLIPTokenizer
    step: int = 0

    def save(self) -> None:
        """Keeps a checkpoint and exports the average of the weights."""
        fresh = CHECKPOINT.with_suffix(".new")
        torch.save(
            {
                "painter": self.painter.state_dict(),
                "average": self.average.weights,
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
            },
            fresh,
        )
        fresh.rename(CHECKPOINT)
        weights = self.average.weights
        parts: list[Any] = []
        for name, part in (("unet.", unet()), ("text_encoder.", text_encoder(self.tokenizer))):
            part.load_state_dict(
                {
                    key.removeprefix(name): value
                    for key, value in weights.items()
                    if key.startswith(name)
                }
            )
            parts.append(part)
        vae = AutoencoderTiny.from_pretrained(AUTOENCODER)
        export(MODEL, vae, parts[0], parts[1], self.tokenizer)


def begun(*, finish: bool = False) -> Training:
    """A training at its start, or where the checkpoint left it; with `finish` and no checkpoint,
    at its last phase and with the shipped weights."""
    torch.manual_seed(SEED)
    finish = finish and not CHECKPOINT.exists()
    if finish:
        for part, folder in (("tokenizer", TOKENIZER), ("vae", AUTOENCODER)):
            shutil.copytree(MODEL / part, folder, dirs_exist_ok=True)
    words = tokenizer(TOKENIZER)
    if not (AUTOENCODER / "config.json").exists():
        autoencoder.train()
    vae = AutoencoderTiny.from_pretrained(AUTOENCODER, torch_dtype=torch.float32)
    if vae.config.scaling_factor == 1.0:
        scaled(vae).save_pretrained(AUTOENCODER)
    painter = Painter(words).train()
    if finish:
        _shipped(painter)
    elif not CHECKPOINT.exists():
        _prepared(painter, vae, words)
    optimizer = Optimizer(painter, _EDGES, _PEAKS, new=_NEW, old_share=_SKETCHED)
    made = Training(painter, Average(painter, _KEEP), optimizer, vae, words)
    if finish:
        made.step = unfinished()
    if CHECKPOINT.exists():
        kept = torch.load(CHECKPOINT)
        painter.load_state_dict(kept["painter"])
        made.optimizer.load_state_dict(kept["optimizer"])
        made.average.weights, made.step = kept["average"], kept["step"]
    return made


def _shipped(painter: Painter) -> None:
    """Gives a painter the weights of the exported model."""
    for made, kind, name in (
        (painter.unet, UNet2DConditionModel, "unet"),
        (painter.text_encoder, CLIPTextModel, "text_encoder"),
    ):
        made.load_state_dict(kind.from_pretrained(MODEL / name).float().state_dict())


def _prepared(painter: Painter, vae: AutoencoderTiny, words: CLIPTokenizer) -> None:
    """Teaches the parts of a painter what they can learn faster alone."""
    small = album(LATENTS, SMALL, vae, words)
    painter.text_encoder.load_state_dict(taught(READER, small, words).state_dict())
    entry = sketched(SKETCH, small, painter)
    native = album(LATENTS, NATIVE_SHARE, vae, words)
    noise = torch.Generator().manual_seed(SEED)
    missed = joined(painter, entry, native.latents, noise)
    calmed(painter, *native.batch(Random(SEED), _CALMED), noise)
    print(f"joined, {missed:.1%} of the entry unexplained", flush=True)


def _batch(training: Training, phase: Phase, albums: dict[str, Album]) -> tuple[Tensor, Tensor]:
    rng = Random(f"{SEED} batch {training.step}")
    (share,) = rng.choices(phase.shares, [share.weight for share in phase.shares])
    if share.name not in albums:
        albums[share.name] = album(LATENTS, share, training.vae, training.tokenizer)
    chosen = albums[share.name]
    latents, tokens = chosen.batch(rng, phase.batch(share.size))
    silent = torch.tensor([rng.random() < _SILENT for _ in range(len(tokens))])
    tokens[silent] = chosen.empty.long()
    return latents, tokens


def train(training: Training) -> None:
    """Runs the schedule to its end."""
    albums: dict[str, Album] = {}
    noise = torch.Generator()
    began, seen, losses = time.monotonic(), 0, []
    while training.step < steps():
        phase = phase_of(training.step)
        for name, weight in training.painter.named_parameters():
            weight.requires_grad_(phase.inner or name.startswith(_NEW))
        latents, tokens = _batch(training, phase, albums)
        noise.manual_seed(SEED + training.step)
        with fast():
            loss = training.painter.loss(latents, tokens, noise, phase.dwell)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(training.painter.parameters(), 1.0)
        training.optimizer.step(share_of_peak(training.step))
        training.average.update(training.step)
        training.step += 1
        seen += len(latents)
        losses.append(loss.item())
        if training.step % _TELL_EVERY == 0:
            recent = sum(losses[-_TELL_EVERY:]) / len(losses[-_TELL_EVERY:])
            spent = time.monotonic() - began
            print(
                f"{training.step}/{steps()} loss {recent:.4f} {spent:.0f}s "
                f"{seen / spent:.1f} scenes/s",
                flush=True,
            )
        if training.step % _SAVE_EVERY == 0:
            training.save()
    training.save()


def main() -> None:
    """Trains on a number of threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--finish", action="store_true", help="the last phase alone, from the shipped weights"
    )
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    keep_memory()
    train(begun(finish=chosen.finish))


if __name__ == "__main__":
    main()
