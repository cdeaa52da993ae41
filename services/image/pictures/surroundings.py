"""The colours around a hole, spread into it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_GREY = 127.5

_Values = NDArray[np.floating[Any]]
"""[height, width, channels]"""


def fill_surroundings(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Fills the white part of a mask with the colours around it, the softer the farther inside.

    `image` is RGB, `mask` L of the same size; where it is grey, both show. Where there is nothing
    around, it is grey.
    """
    colours = np.asarray(image, np.float32)
    shown = 1 - np.asarray(mask, np.float32)[..., None] / 255
    filled = _spread(colours * shown, shown)
    return Image.fromarray(np.clip(np.rint(filled), 0, 255).astype(np.uint8))


def _spread(colours: _Values, shown: _Values) -> _Values:
    """Fills up what is not shown from the same picture at half the size, and that likewise.

    `colours` are weighted by `shown` already.
    """
    height, width, _ = colours.shape
    if shown.min() == 1:
        return colours
    if height == width == 1:
        return colours + (1 - shown) * (colours / shown if shown.min() > 0 else _GREY)
    coarse = _spread(*_halved(colours, shown))
    channels = [
        Image.fromarray(coarse[..., channel].astype(np.float32)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        for channel in range(3)
    ]
    return colours + (1 - shown) * np.stack([np.asarray(channel) for channel in channels], axis=-1)


def _halved(colours: _Values, shown: _Values) -> tuple[_Values, _Values]:
    """Joins each two by two pixels; where some are shown, these alone give the colour."""
    sums = [_sum(colours), _sum(shown)]
    weight = np.maximum(sums[1], 1)
    return sums[0] / weight, sums[1] / weight


def _sum(values: _Values) -> _Values:
    height, width, _ = values.shape
    even = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
