"""Draws the sheet of samples that the model card shows.

python -m starters.image.recipe.sheet
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

import torch
from PIL import Image

from starters.image.recipe.curriculum import SEED
from starters.image.recipe.exam import GUIDANCE, STEPS, load
from starters.image.recipe.paths import MODEL, SHEET

PROMPTS: Final = (
    "a red circle on blue",
    "a yellow star on a purple background",
    "a small green triangle in the top left on white",
    "a big pink heart on black",
    "two yellow stars on blue",
    "three orange diamonds on a white background",
    "four white circles on green",
    "a black cross",
    "a blue square and a red circle",
    "a green ring above a brown hexagon on yellow",
    "a cyan crescent on a gradient from blue to purple",
    "a white star inside a red circle on grey",
    "mountains at sunset",
    "mountains under a starry night",
    "a forest in the morning",
    "the sea at sunset",
    "a desert",
    "a city at night",
    "a red house on cyan",
    "a purple flower on yellow",
    "a tree",
    "a smiley on pink",
    "a blue and white checkerboard",
    "something beautiful",
)
"""What the sheet shows, row by row."""

_TILE: Final = 192
_GAP: Final = 6
_COLUMNS: Final = 6


def sheet(folder: Path, prompts: tuple[str, ...], guidance: float) -> Image.Image:
    """Draws prompts, one seed for all, nothing chosen by hand."""
    pipeline = load(folder)
    pipeline.set_progress_bar_config(disable=True)
    rows = -(-len(prompts) // _COLUMNS)
    whole = Image.new(
        "RGB", (_COLUMNS * (_TILE + _GAP) - _GAP, rows * (_TILE + _GAP) - _GAP), "white"
    )
    for number, prompt in enumerate(prompts):
        picture = pipeline(
            prompt,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(SEED),
        ).images[0]
        small = picture.resize((_TILE, _TILE), Image.Resampling.LANCZOS)
        row, column = divmod(number, _COLUMNS)
        whole.paste(small, (column * (_TILE + _GAP), row * (_TILE + _GAP)))
    return whole


def main() -> None:
    """Draws the sheet and saves it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--to", type=Path, default=SHEET)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    chosen = parser.parse_args()
    sheet(chosen.model, PROMPTS, chosen.guidance).save(chosen.to, optimize=True)


if __name__ == "__main__":
    main()
