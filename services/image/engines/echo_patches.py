"""Pictures of coloured patches, and the noise that they come out of."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from services.image.engine import Drawing, Plan

CELL = 8
"""Pixels of a side that one cell of the noise stands for."""
_PATCHES = 4

Cells = NDArray[Any]
"""Colours in [0, 1] as 32-bit floats: rows, columns, channels."""


def patches(
    plan: Plan, prompt: str, negative_prompt: str, seed: int, shape: tuple[int, int]
) -> Cells:
    """The picture that the words stand for: a few colours, laid out by the seed."""
    tuning = plan.tuning
    eta = tuning.eta
    if plan.sampler != "DDIM" and eta is None:
        eta = 1.0  # clients send it where they mean the default
    said = (
        prompt,
        negative_prompt if plan.cfg_scale > 1 else "",
        plan.sampler,
        plan.scheduler,
        plan.steps,
        plan.cfg_scale,
        plan.clip_skip,
        (eta, tuning.s_churn, tuning.s_tmin, tuning.s_tmax),
        (tuning.s_noise, tuning.s_min_uncond),
    )
    colours = _generator("colours", said).random((_PATCHES * _PATCHES, 3), dtype=np.float32)
    places = _generator("places", seed).permutation(_PATCHES * _PATCHES)
    grid = colours[places].reshape(_PATCHES, _PATCHES, 3)
    if plan.tiling:  # mirrored, so that opposite edges are equal
        grid = np.concatenate([grid, grid[::-1]], axis=0)
        grid = np.concatenate([grid, grid[:, ::-1]], axis=1)
    rows = np.arange(shape[0]) * grid.shape[0] // shape[0]
    columns = np.arange(shape[1]) * grid.shape[1] // shape[1]
    return grid[rows][:, columns]


def noise_of(drawing: Drawing, shape: tuple[int, int]) -> Cells:
    """What a drawing begins with."""
    noise = _generator("noise", drawing.seed).random((*shape, 3), dtype=np.float32)
    variation = drawing.variation
    if variation is None:
        return noise
    inner = (
        min(variation.height // CELL or shape[0], shape[0]),
        min(variation.width // CELL or shape[1], shape[1]),
    )
    first = _generator("noise", (drawing.seed, inner)).random((*inner, 3), dtype=np.float32)
    if inner == shape:
        first = noise
    second = _generator("noise", variation.subseed).random((*inner, 3), dtype=np.float32)
    top, left = (shape[0] - inner[0]) // 2, (shape[1] - inner[1]) // 2
    mixed = noise.copy()
    mixed[top : top + inner[0], left : left + inner[1]] = mix(
        first, second, np.float32(variation.strength)
    )
    return mixed


def mix(first: Cells, second: Cells, share: np.float32) -> Cells:
    """A share of the way from one to the other."""
    return first * (np.float32(1) - share) + second * share


def _generator(purpose: str, said: object) -> np.random.Generator:
    digest = hashlib.blake2b(f"{purpose}:{said!r}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def to_cells(image: Image.Image, shape: tuple[int, int]) -> Cells:
    """A picture in cells."""
    small = image.convert("RGB").resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, np.float32) / np.float32(255)


def to_image(cells: Cells) -> Image.Image:
    """One pixel for each cell."""
    return Image.fromarray((cells.clip(0, 1) * 255).round().astype(np.uint8))


def enlarge(cells: Cells, width: int, height: int) -> Image.Image:
    """A picture of a size."""
    return to_image(cells).resize((width, height), Image.Resampling.NEAREST)
