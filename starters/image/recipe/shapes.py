"""The shapes that captions name, as polygons that fill the square from -1 to 1."""

from __future__ import annotations

from math import cos, pi, sin
from typing import Final

from starters.image.recipe.drawing import Point, circle

_HOLE: Final = 0.55
_ARM: Final = 0.36


def _fitted(points: list[Point]) -> tuple[Point, ...]:
    """Moves and stretches a polygon, keeping its form, until its longer side spans -1 to 1."""
    columns, rows = zip(*points, strict=True)
    left, right, top, bottom = min(columns), max(columns), min(rows), max(rows)
    half = max(right - left, bottom - top) / 2
    across, down = (left + right) / 2, (top + bottom) / 2
    return tuple(((x - across) / half, (y - down) / half) for x, y in points)


def _turning(corners: int, radii: tuple[float, ...], start: float = -pi / 2) -> list[Point]:
    return [
        (
            radii[i % len(radii)] * cos(start + 2 * pi * i / corners),
            radii[i % len(radii)] * sin(start + 2 * pi * i / corners),
        )
        for i in range(corners)
    ]


def _heart() -> list[Point]:
    turns = [2 * pi * step / 72 for step in range(72)]
    return [
        (16 * sin(t) ** 3, -(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)))
        for t in turns
    ]


def _ring() -> list[Point]:
    outer = list(circle())
    inner = [(_HOLE * x, _HOLE * y) for x, y in circle()]
    return [*outer, outer[0], *inner, inner[0]]


def _crescent() -> list[Point]:
    outer = [(cos(a), sin(a)) for a in (0.3 * pi + 1.4 * pi * i / 48 for i in range(49))]
    (x, y), centre = outer[-1], 0.62
    reach = ((x - centre) ** 2 + y**2) ** 0.5
    inner = [
        (centre + reach * cos(a), reach * sin(a))
        for a in (1.5 * pi - 0.18 * pi - (pi - 0.36 * pi) * i / 48 for i in range(49))
    ]
    return [*outer, *inner]


SHAPES: Final[dict[str, tuple[Point, ...]]] = {
    "circle": circle(),
    "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    "triangle": _fitted(_turning(3, (1.0,))),
    "star": _fitted(_turning(10, (1.0, 0.42))),
    "heart": _fitted(_heart()),
    "diamond": ((0, -1), (0.72, 0), (0, 1), (-0.72, 0)),
    "hexagon": _fitted(_turning(6, (1.0,), start=0)),
    "cross": tuple(
        (x, y)
        for x, y in (
            (-_ARM, -1),
            (_ARM, -1),
            (_ARM, -_ARM),
            (1, -_ARM),
            (1, _ARM),
            (_ARM, _ARM),
            (_ARM, 1),
            (-_ARM, 1),
            (-_ARM, _ARM),
            (-1, _ARM),
            (-1, -_ARM),
            (-_ARM, -_ARM),
        )
    ),
    "ring": tuple(_ring()),
    "rectangle": ((-1, -0.55), (1, -0.55), (1, 0.55), (-1, 0.55)),
    "oval": tuple((x, 0.62 * y) for x, y in circle()),
    "crescent": _fitted(_crescent()),
}
"""The outline of each shape."""

NAMES: Final[dict[str, tuple[str, ...]]] = {
    "circle": ("circle", "circle", "circle", "disc", "ball", "dot"),
    "square": ("square", "square", "square", "box"),
    "heart": ("heart",),
    "diamond": ("diamond", "diamond", "rhombus"),
    "cross": ("cross", "cross", "plus"),
    "ring": ("ring", "ring", "donut"),
    "oval": ("oval", "ellipse"),
    "crescent": ("crescent", "crescent", "crescent moon"),
}
"""Shapes that have several names."""


def placed(shape: str, x: float, y: float, radius: float) -> tuple[Point, ...]:
    """A shape's outline around a point."""
    return tuple((x + radius * across, y + radius * down) for across, down in SHAPES[shape])


def plural(name: str) -> str:
    """Several of a shape."""
    if name.endswith(("s", "x", "sh", "ch")):
        return name + "es"
    return name + "s"
