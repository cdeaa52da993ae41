"""Pictures fitted to another size."""

from enum import Enum
from typing import NamedTuple

import numpy as np
from PIL import Image


class ResizeMode(Enum):
    """How a picture is fitted where its shape is another."""

    STRETCH = "stretch"
    """Each side is scaled by itself."""
    CROP = "crop"
    """Scaled to cover; the middle is kept."""
    FILL = "fill"
    """Scaled to fit; the colours of its edges go on over the rest."""


class Box(NamedTuple):
    """A rectangle of pixels; right and lower are the first ones outside."""

    left: int
    upper: int
    right: int
    lower: int

    @property
    def width(self) -> int:
        """Width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Height in pixels."""
        return self.lower - self.upper


def fit(image: Image.Image, width: int, height: int, mode: ResizeMode) -> Image.Image:
    """Returns a picture (RGB or L) of the given size. One that has it already stays as it is."""
    if image.size == (width, height):
        return image
    if mode is ResizeMode.STRETCH:
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if mode is ResizeMode.CROP:
        scale = max(width / image.width, height / image.height)
        across = max(0.0, image.width - width / scale) / 2
        down = max(0.0, image.height - height / scale) / 2
        part = (across, down, image.width - across, image.height - down)
        return image.resize((width, height), Image.Resampling.LANCZOS, box=part)
    return place(image, width, height, inner_box(image.size, width, height))


def inner_box(size: tuple[int, int], width: int, height: int) -> Box:
    """Returns where a picture of some size lies when it is scaled to fit into another."""
    scale = min(width / size[0], height / size[1])
    across = min(width, max(1, round(size[0] * scale)))
    down = min(height, max(1, round(size[1] * scale)))
    left, upper = (width - across) // 2, (height - down) // 2
    return Box(left, upper, left + across, upper + down)


def place(image: Image.Image, width: int, height: int, box: Box) -> Image.Image:
    """Scales a picture into a box; around it the colours of its edges go on."""
    inner = image.resize((box.width, box.height), Image.Resampling.LANCZOS)
    margins = ((box.upper, height - box.lower), (box.left, width - box.right))
    pixels = np.asarray(inner)
    rest = [(0, 0)] * (pixels.ndim - 2)  # channels
    return Image.fromarray(np.pad(pixels, [*margins, *rest], mode="edge"))
