"""Paints cheap pictures of latents: one pixel for each. No torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ColourMap = NDArray[np.float64]
"""Red, green and blue of each channel, and what is added to all."""


def painted(latents: NDArray[Any], colours: ColourMap) -> Image.Image:
    """A picture of latents of shape (channels, rows, columns)."""
    pixels = np.moveaxis(latents.astype(np.float64), 0, -1)
    ones = np.ones((*pixels.shape[:-1], 1))
    mixed: NDArray[np.float64] = np.concatenate([pixels, ones], axis=-1) @ colours
    return Image.fromarray((np.nan_to_num(mixed).clip(0, 1) * 255).round().astype(np.uint8))
