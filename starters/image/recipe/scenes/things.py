"""Things built of a few shapes: houses, trees, flowers, faces, boats, suns and clouds."""

from __future__ import annotations

from math import cos, pi, sin
from random import Random
from typing import Final

from starters.image.recipe.colours import COLOURS, RGB, mixed, spelled, varied
from starters.image.recipe.drawing import Drawing
from starters.image.recipe.scenes.landscapes import fir
from starters.image.recipe.scenes.scene import (
    Scene,
    a,
    joined,
    other_colour,
    phrased,
    silent,
    solid,
)

_DARK: Final = (35, 35, 45)


def _house(drawing: Drawing, colour: RGB) -> None:
    drawing.box(colour, 0.28, 0.46, 0.72, 0.8)
    drawing.polygon(mixed(colour, _DARK, 0.45), [(0.5, 0.2), (0.79, 0.46), (0.21, 0.46)])
    drawing.box(mixed(colour, _DARK, 0.6), 0.45, 0.6, 0.55, 0.8)
    for left in (0.33, 0.58):
        drawing.box((250, 240, 190), left, 0.53, left + 0.09, 0.62)


def _tree(drawing: Drawing, colour: RGB) -> None:
    drawing.box((115, 75, 45), 0.46, 0.55, 0.54, 0.85)
    for x, y, radius in ((0.5, 0.33, 0.18), (0.37, 0.46, 0.14), (0.63, 0.46, 0.14)):
        drawing.ellipse(colour, x, y, radius, radius)


def _fir(drawing: Drawing, colour: RGB) -> None:
    fir(drawing, 0.5, 0.86, 0.72, colour, (115, 75, 45))


def _flower(drawing: Drawing, colour: RGB) -> None:
    drawing.box((60, 145, 70), 0.485, 0.42, 0.515, 0.88)
    drawing.ellipse((60, 145, 70), 0.57, 0.7, 0.075, 0.035)
    for turn in range(6):
        angle = turn * pi / 3
        drawing.ellipse(colour, 0.5 + 0.13 * cos(angle), 0.35 + 0.13 * sin(angle), 0.085, 0.085)
    core = (250, 215, 50) if colour[2] > 110 or colour[1] < 120 else (125, 75, 40)
    drawing.ellipse(core, 0.5, 0.35, 0.075, 0.075)


def _face(drawing: Drawing, colour: RGB) -> None:
    drawing.ellipse(colour, 0.5, 0.5, 0.33, 0.33)
    for x in (0.38, 0.62):
        drawing.ellipse(_DARK, x, 0.42, 0.04, 0.055)
    outer = [(0.5 + 0.2 * cos(t), 0.54 + 0.17 * sin(t)) for t in (pi * i / 24 for i in range(25))]
    inner = [
        (0.5 + 0.17 * cos(t), 0.54 + 0.1 * sin(t)) for t in (pi * i / 24 for i in range(24, -1, -1))
    ]
    drawing.polygon(_DARK, outer + inner)


def _boat(drawing: Drawing, colour: RGB) -> None:
    drawing.box((45, 110, 185), -0.01, 0.7, 1.01, 1.01)
    drawing.polygon(colour, [(0.24, 0.6), (0.76, 0.6), (0.66, 0.76), (0.34, 0.76)])
    drawing.box((115, 75, 45), 0.49, 0.2, 0.51, 0.6)
    drawing.polygon((250, 250, 250), [(0.52, 0.22), (0.74, 0.56), (0.52, 0.56)])
    drawing.polygon((240, 235, 225), [(0.48, 0.28), (0.48, 0.56), (0.3, 0.56)])


def _sun(drawing: Drawing, colour: RGB) -> None:
    for turn in range(12):
        angle, half = turn * pi / 6, 0.08
        drawing.polygon(
            colour,
            [
                (0.5 + 0.36 * cos(angle), 0.5 + 0.36 * sin(angle)),
                (0.5 + 0.2 * cos(angle + 2 * half), 0.5 + 0.2 * sin(angle + 2 * half)),
                (0.5 + 0.2 * cos(angle - 2 * half), 0.5 + 0.2 * sin(angle - 2 * half)),
            ],
        )
    drawing.ellipse(colour, 0.5, 0.5, 0.2, 0.2)


def _cloud(drawing: Drawing, colour: RGB) -> None:
    for x, y, radius in ((0.34, 0.55, 0.12), (0.5, 0.46, 0.17), (0.66, 0.54, 0.13)):
        drawing.ellipse(colour, x, y, radius, radius)
    drawing.box(colour, 0.34, 0.55, 0.66, 0.67)


_THINGS: Final = {
    "house": (_house, ""),
    "tree": (_tree, "green"),
    "fir tree": (_fir, "green"),
    "flower": (_flower, ""),
    "smiley": (_face, "yellow"),
    "boat": (_boat, ""),
    "sun": (_sun, "yellow"),
    "cloud": (_cloud, "white"),
}
_NAMES: Final = {
    "smiley": ("smiley", "smiley face", "smiling face", "face"),
    "boat": ("boat", "sailing boat", "ship"),
    "house": ("house", "house", "home"),
    "fir tree": ("fir tree", "pine tree", "christmas tree"),
}
_NEVER_BEHIND: Final = {
    "tree": ("brown",),
    "fir tree": ("brown",),
    "flower": ("green",),
    "boat": ("blue",),
}


def thing(rng: Random) -> Scene:
    """One thing, in its usual colour or in a named one."""
    kind = rng.choice(list(_THINGS))
    draw, usual = _THINGS[kind]
    colour, word = usual or rng.choice(list(COLOURS)), ""
    if not usual or rng.random() < 0.35:
        colour = rng.choice([name for name in COLOURS if name != "black"])
        word = spelled(rng, colour) + " " if rng.random() < 0.8 or usual else ""
    avoided = (colour, *_NEVER_BEHIND.get(kind, ()))
    roll = rng.random()
    background = solid(rng, other_colour(rng, *avoided)) if roll < 0.6 else silent(rng, *avoided)
    drawing = Drawing(background.look)
    draw(drawing, varied(rng, COLOURS[colour]))
    subject = word + rng.choice(_NAMES.get(kind, (kind,)))
    if rng.random() < 0.85:
        subject = a(subject)
    return Scene(phrased(rng, joined(subject, background)), drawing, (), background.name)
