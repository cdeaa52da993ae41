"""Looks at a picture: which shapes of which colours are where, on which background.

It knows nothing of how a picture was made. Whatever differs from the colour along the edges is a
figure; a connected area is one figure; its shape is the known one that covers it best where both
are centred and of equal area. Areas and centres hardly feel a bump on an outline, extents do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from starters.image.recipe.colours import nearest
from starters.image.recipe.shapes import SHAPES

Mask = NDArray[np.bool_]

_DIFFERENT: Final = 38.0
_SMALLEST: Final = 0.0015
_GRID: Final = 64
_SIDE: Final = 30
"""The side of a square with the area that a mask in the grid has."""
_RIM: Final = 0.02


@dataclass(frozen=True, slots=True)
class Seen:
    """A figure in a picture; lengths are shares of the picture's side."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float
    likeness: float


@dataclass(frozen=True, slots=True)
class View:
    """What is in a picture."""

    background: str
    figures: tuple[Seen, ...]


def seen(image: Image.Image) -> View:
    """Looks at a picture of plain figures on one colour."""
    values = np.asarray(image.convert("RGB"), dtype=np.float32)
    behind = np.median(_rim(values), axis=0)
    differs = np.sqrt(((values - behind) ** 2).sum(axis=2)) > _DIFFERENT
    marks, count = ndimage.label(differs)
    figures = [
        _figure(values, marks == number)
        for number in range(1, count + 1)
        if (marks == number).mean() >= _SMALLEST
    ]
    return View(_name(behind), tuple(sorted(figures, key=lambda figure: (figure.x, figure.y))))


def _rim(values: NDArray[np.float32]) -> NDArray[np.float32]:
    deep = max(1, round(_RIM * min(values.shape[:2])))
    edges = (values[:deep], values[-deep:], values[:, :deep], values[:, -deep:])
    return np.concatenate([edge.reshape(-1, 3) for edge in edges])


def _name(colour: NDArray[np.float32]) -> str:
    red, green, blue = (float(part) for part in colour)
    return nearest((red, green, blue))


def _figure(values: NDArray[np.float32], mask: Mask) -> Seen:
    core = ndimage.binary_erosion(mask, iterations=2)
    colour = np.median(values[core if core.any() else mask], axis=0)
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    shape, likeness = _shape(mask[top:bottom, left:right])
    high, wide = mask.shape
    return Seen(
        _name(colour),
        shape,
        float(left + right) / 2 / wide,
        float(top + bottom) / 2 / high,
        float(max(right - left, bottom - top)) / 2 / wide,
        likeness,
    )


def _shape(mask: Mask) -> tuple[str, float]:
    looked = _fitted(mask)
    scores = {
        name: float((looked & known).sum() / (looked | known).sum())
        for name, known in _known().items()
    }
    best = max(scores, key=lambda name: scores[name])
    return best, scores[best]


def _fitted(mask: Mask) -> Mask:
    """Brings a mask into a grid: its centre into the middle, its area to one size."""
    down, across = (places.mean() for places in np.nonzero(mask))
    places = (np.arange(_GRID) - (_GRID - 1) / 2) * mask.sum() ** 0.5 / _SIDE
    wanted = np.meshgrid(places + down, places + across, indexing="ij")
    return ndimage.map_coordinates(mask.astype(np.float32), wanted, order=1) > 0.5


@cache
def _known() -> dict[str, Mask]:
    """Each shape as a mask, fitted as a seen one is."""
    side, made = 256, dict[str, Mask]()
    for name, points in SHAPES.items():
        image = Image.new("L", (side, side))
        outline = [((x + 1) / 2 * (side - 1), (y + 1) / 2 * (side - 1)) for x, y in points]
        ImageDraw.Draw(image).polygon(outline, fill=255)
        made[name] = _fitted(np.asarray(image) > 127)
    return made
