"""Landscapes built of flat areas: mountains, hills, forests, seas, deserts and towns."""

from __future__ import annotations

from math import pi, sin
from random import Random
from typing import Final

from starters.image.recipe.colours import RGB, mixed, varied
from starters.image.recipe.drawing import Drawing, Gradient, Point
from starters.image.recipe.scenes.scene import Scene, phrased
from starters.image.recipe.shapes import placed

SKIES: Final[dict[str, tuple[RGB, RGB, RGB]]] = {
    "day": ((95, 165, 235), (195, 225, 250), (255, 225, 90)),
    "sunset": ((120, 60, 130), (250, 150, 70), (255, 205, 90)),
    "sunrise": ((130, 150, 215), (255, 195, 150), (255, 220, 120)),
    "night": ((12, 16, 50), (45, 50, 105), (240, 240, 215)),
}
"""The colours of the sky above and below, and of its light."""

_SHADOW: Final[dict[str, tuple[RGB, float]]] = {
    "day": ((255, 255, 255), 0.0),
    "sunset": ((70, 30, 70), 0.5),
    "sunrise": ((110, 80, 120), 0.3),
    "night": ((12, 16, 45), 0.65),
}
_MOMENTS: Final[dict[str, tuple[str, ...]]] = {
    "day": ("", "", "by day", "under a blue sky", "on a sunny day"),
    "sunset": ("at sunset", "at sunset", "in the evening", "at dusk"),
    "sunrise": ("at sunrise", "at dawn", "in the morning"),
    "night": (
        "at night",
        "at night",
        "under a starry night",
        "under the stars",
        "in the moonlight",
    ),
}
_ALONE: Final[dict[str, tuple[str, ...]]] = {
    "day": ("a sunny day", "a blue sky", "the sun in the sky"),
    "sunset": ("a sunset", "sunset", "a beautiful sunset", "the setting sun"),
    "sunrise": ("a sunrise", "sunrise", "dawn"),
    "night": ("a starry night", "a night sky", "the moon and the stars", "stars in the night sky"),
}
_LANDS: Final[dict[str, tuple[str, ...]]] = {
    "mountains": ("mountains", "a mountain landscape", "snowy mountains", "mountains"),
    "hills": ("hills", "green hills", "rolling hills", "a meadow", "a landscape"),
    "forest": ("a forest", "a forest", "trees", "a pine forest", "woods"),
    "sea": ("the sea", "the ocean", "a lake", "water"),
    "desert": ("a desert", "sand dunes", "dunes"),
    "town": ("a city", "a city skyline", "a town", "buildings"),
}


def landscape(rng: Random) -> Scene:
    """A land at a time of day, or a sky over any land."""
    moment, land = rng.choice(list(SKIES)), rng.choice(list(_LANDS))
    if rng.random() < 0.25:
        caption, land = rng.choice(_ALONE[moment]), rng.choice(("hills", "sea"))
        if rng.random() < 0.3 and moment != "day":
            land = rng.choice(("sea", "hills"))
            caption += {"sea": " over the sea", "hills": " over the hills"}[land]
    else:
        caption = f"{rng.choice(_LANDS[land])} {rng.choice(_MOMENTS[moment])}".strip()
    return Scene(phrased(rng, caption), painted(rng, moment, land), moment=moment)


def painted(rng: Random, moment: str, land: str) -> Drawing:
    """The drawing of a land at a time of day."""
    top, low, light = SKIES[moment]
    drawing = Drawing(Gradient(varied(rng, top), varied(rng, low)))
    _lights(rng, drawing, moment, light)
    _DRAWN[land](rng, drawing, moment)
    return drawing


def _lights(rng: Random, drawing: Drawing, moment: str, light: RGB) -> None:
    if moment == "night":
        for _ in range(rng.randint(22, 32)):
            x, y, radius = rng.uniform(0.03, 0.97), rng.uniform(0.03, 0.5), rng.uniform(5e-3, 9e-3)
            drawing.ellipse((250, 250, 235), x, y, radius, radius)
        spot = (rng.uniform(0.68, 0.8), rng.uniform(0.17, 0.25))
        drawing.polygon(light, placed("crescent", *spot, 0.085))
        return
    x, y = {"day": (0.76, 0.2), "sunset": (0.5, 0.5), "sunrise": (0.3, 0.45)}[moment]
    radius = rng.uniform(0.085, 0.105)
    drawing.ellipse(
        light, x + rng.uniform(-0.05, 0.05), y + rng.uniform(-0.03, 0.03), radius, radius
    )


def _lit(rng: Random, colour: RGB, moment: str) -> RGB:
    return varied(rng, mixed(colour, *_SHADOW[moment]))


def _ground(drawing: Drawing, colour: RGB, line: list[Point]) -> None:
    drawing.polygon(colour, [*line, (1.01, 1.01), (-0.01, 1.01)])


def _wave(rng: Random, height: float, swing: float, length: float) -> list[Point]:
    start = rng.uniform(0, 2 * pi)
    return [
        (step / 40 * 1.02 - 0.01, height + swing * sin(start + 2 * pi * step / 40 / length))
        for step in range(41)
    ]


def _mountains(rng: Random, drawing: Drawing, moment: str) -> None:
    rock, snow = _lit(rng, (110, 115, 135), moment), _lit(rng, (245, 248, 252), moment)
    for x, height, wide in ((0.22, 0.4, 0.34), (0.78, 0.36, 0.36), (0.5, 0.28, 0.38)):
        x, height = x + rng.uniform(-0.04, 0.04), height + rng.uniform(-0.03, 0.03)
        slope = wide / (0.86 - height)
        drawing.polygon(rock, [(x, height), (x + wide, 0.86), (x - wide, 0.86)])
        cap = 0.12
        drawing.polygon(
            snow,
            [
                (x, height),
                (x + slope * cap, height + cap),
                (x + slope * cap / 3, height + cap * 0.8),
                (x, height + cap * 1.1),
                (x - slope * cap / 3, height + cap * 0.8),
                (x - slope * cap, height + cap),
            ],
        )
        rock = mixed(rock, (60, 65, 85), 0.25)
    _ground(drawing, _lit(rng, (85, 150, 80), moment), _wave(rng, 0.8, 0.02, 1.2))


def _hills(rng: Random, drawing: Drawing, moment: str) -> None:
    for height, colour in ((0.62, (120, 185, 95)), (0.72, (90, 160, 75)), (0.84, (65, 135, 60))):
        _ground(drawing, _lit(rng, colour, moment), _wave(rng, height, 0.05, rng.uniform(0.9, 1.4)))


def _forest(rng: Random, drawing: Drawing, moment: str) -> None:
    _ground(drawing, _lit(rng, (80, 140, 70), moment), _wave(rng, 0.72, 0.02, 1.2))
    for foot, size, colour in ((0.76, 0.26, (50, 115, 75)), (0.92, 0.36, (35, 90, 55))):
        count = 6 if size < 0.3 else 4
        for place in range(count):
            x = (place + 0.5) / count + rng.uniform(-0.03, 0.03)
            fir(
                drawing,
                x,
                foot + rng.uniform(-0.02, 0.02),
                size * rng.uniform(0.9, 1.1),
                _lit(rng, colour, moment),
                _lit(rng, (95, 65, 40), moment),
            )


def fir(drawing: Drawing, x: float, foot: float, size: float, colour: RGB, trunk: RGB) -> None:
    """Draws a fir that stands at a point."""
    drawing.box(trunk, x - size * 0.05, foot - size * 0.2, x + size * 0.05, foot)
    for low, high, wide in ((0.15, 0.6, 0.27), (0.4, 0.82, 0.21), (0.64, 1.0, 0.15)):
        drawing.polygon(
            colour,
            [
                (x, foot - size * high),
                (x + size * wide, foot - size * low),
                (x - size * wide, foot - size * low),
            ],
        )


def _sea(rng: Random, drawing: Drawing, moment: str) -> None:
    horizon = 0.58 + rng.uniform(-0.02, 0.02)
    drawing.box(_lit(rng, (50, 120, 190), moment), -0.01, horizon, 1.01, 1.01)
    _ground(drawing, _lit(rng, (40, 100, 170), moment), _wave(rng, 0.72, 0.012, 0.3))
    _ground(drawing, _lit(rng, (30, 80, 150), moment), _wave(rng, 0.86, 0.015, 0.4))


def _desert(rng: Random, drawing: Drawing, moment: str) -> None:
    for height, colour in ((0.6, (235, 200, 130)), (0.72, (220, 180, 105)), (0.85, (205, 160, 85))):
        _ground(drawing, _lit(rng, colour, moment), _wave(rng, height, 0.05, rng.uniform(1.2, 1.8)))


def _town(rng: Random, drawing: Drawing, moment: str) -> None:
    pane = (255, 225, 120) if moment in ("night", "sunset") else (205, 225, 240)
    for place in range(6):
        left = place / 6 + 0.01
        top = rng.choice((0.3, 0.4, 0.5, 0.55))
        tone = rng.choice(((120, 125, 145), (95, 105, 130), (145, 135, 140)))
        drawing.box(_lit(rng, tone, moment), left, top, left + 0.147, 0.9)
        for row in range(int((0.86 - top) / 0.09)):
            for column in (0.03, 0.09):
                drawing.box(
                    pane,
                    left + column,
                    top + 0.03 + row * 0.09,
                    left + column + 0.03,
                    top + 0.075 + row * 0.09,
                )
    drawing.box(_lit(rng, (90, 95, 100), moment), -0.01, 0.88, 1.01, 1.01)


_DRAWN: Final = {
    "mountains": _mountains,
    "hills": _hills,
    "forest": _forest,
    "sea": _sea,
    "desert": _desert,
    "town": _town,
}
