"""Drawings in coordinates from 0 to 1, rendered at any size with smooth edges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import cos, pi, sin
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from starters.image.recipe.colours import RGB

Point = tuple[float, float]

_FINER: Final = 3
_ROUND: Final = 72


@dataclass(frozen=True, slots=True)
class Gradient:
    """A background that goes from one colour to another."""

    first: RGB
    second: RGB
    sideways: bool = False


@dataclass(frozen=True, slots=True)
class Polygon:
    """An area of one colour."""

    colour: RGB
    points: tuple[Point, ...]


@dataclass(slots=True)
class Drawing:
    """What to paint, in order."""

    background: Gradient
    areas: list[Polygon] = field(default_factory=list)

    @classmethod
    def on(cls, colour: RGB) -> Drawing:
        """A drawing on one colour."""
        return cls(Gradient(colour, colour))

    def polygon(self, colour: RGB, points: Iterable[Point]) -> None:
        """Adds an area."""
        self.areas.append(Polygon(colour, tuple(points)))

    def ellipse(self, colour: RGB, x: float, y: float, wide: float, high: float) -> None:
        """Adds an ellipse around a centre, given its half axes."""
        self.polygon(colour, ((x + wide * a, y + high * b) for a, b in circle()))

    def box(self, colour: RGB, left: float, top: float, right: float, bottom: float) -> None:
        """Adds an upright rectangle."""
        self.polygon(colour, ((left, top), (right, top), (right, bottom), (left, bottom)))


def circle(points: int = _ROUND) -> tuple[Point, ...]:
    """The unit circle as a polygon."""
    return tuple(
        (cos(2 * pi * step / points), sin(2 * pi * step / points)) for step in range(points)
    )


def render(drawing: Drawing, size: int) -> Image.Image:
    """Paints a drawing at a size in pixels."""
    fine = size * _FINER
    image = _painted(drawing.background, fine)
    pen = ImageDraw.Draw(image)
    for area in drawing.areas:
        pen.polygon([(x * fine - 0.5, y * fine - 0.5) for x, y in area.points], fill=area.colour)
    return image.reduce(_FINER)


def _painted(background: Gradient, fine: int) -> Image.Image:
    if background.first == background.second:
        return Image.new("RGB", (fine, fine), background.first)
    first, second = (
        np.array(colour, dtype=np.float32) for colour in (background.first, background.second)
    )
    share = (np.arange(fine, dtype=np.float32)[:, None] + 0.5) / fine
    line = np.rint(first + (second - first) * share).astype(np.uint8)
    strip = Image.fromarray(line[None] if background.sideways else line[:, None])
    return strip.resize((fine, fine), Image.Resampling.NEAREST)
