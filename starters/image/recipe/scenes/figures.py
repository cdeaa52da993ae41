"""Scenes of plain shapes: one, several of a kind, two, three, and one inside another."""

from __future__ import annotations

from random import Random
from typing import Final

from starters.image.recipe.colours import COLOURS, SHADES, mixed, spelled, varied
from starters.image.recipe.drawing import Drawing
from starters.image.recipe.scenes.scene import (
    Background,
    Figure,
    Scene,
    a,
    gradient,
    joined,
    other_colour,
    phrased,
    silent,
    solid,
)
from starters.image.recipe.shapes import NAMES, SHAPES, placed, plural

SIZES: Final[dict[str, tuple[float, float]]] = {
    "tiny": (0.06, 0.08),
    "small": (0.10, 0.13),
    "": (0.22, 0.27),
    "big": (0.36, 0.41),
    "huge": (0.43, 0.46),
}
"""Half the longer side of a figure, by the word for its size."""

_SIZE_WORDS: Final = {
    "small": ("small", "little"),
    "big": ("big", "large"),
    "huge": ("huge", "giant"),
    "tiny": ("tiny", "very small"),
}
_NEAR: Final = 0.24
_MIDDLE: Final = 0.5
_FAR: Final = 0.76
PLACES: Final[dict[str, tuple[float, float]]] = {
    "in the top left": (_NEAR, _NEAR),
    "at the top": (_MIDDLE, _NEAR),
    "in the top right": (_FAR, _NEAR),
    "on the left": (_NEAR, _MIDDLE),
    "in the middle": (_MIDDLE, _MIDDLE),
    "on the right": (_FAR, _MIDDLE),
    "in the bottom left": (_NEAR, _FAR),
    "at the bottom": (_MIDDLE, _FAR),
    "in the bottom right": (_FAR, _FAR),
}
"""Where the words for a place put a figure."""

_COUNTS: Final = {2: ("two", "2", "a pair of"), 3: ("three", "3"), 4: ("four", "4")}
_LAYOUTS: Final[dict[int, tuple[tuple[tuple[float, float], ...], ...]]] = {
    2: (((0.28, 0.5), (0.72, 0.5)),),
    3: (((0.2, 0.5), (0.5, 0.5), (0.8, 0.5)), ((0.5, 0.28), (0.28, 0.7), (0.72, 0.7))),
    4: (((0.28, 0.28), (0.72, 0.28), (0.28, 0.72), (0.72, 0.72)),),
}


def _shape(rng: Random) -> str:
    return rng.choice(list(SHAPES))


def _named(rng: Random, shape: str) -> str:
    return rng.choice(NAMES.get(shape, (shape,)))


def _background(rng: Random, *avoided: str) -> Background:
    roll = rng.random()
    if roll < 0.62:
        return solid(rng, other_colour(rng, *avoided))
    return gradient(rng, *avoided) if roll < 0.72 else silent(rng, *avoided)


def _size(rng: Random, allowed: tuple[str, ...] = tuple(SIZES), plain: float = 0.6) -> str:
    return "" if rng.random() < plain else rng.choice([size for size in allowed if size])


def _scene(rng: Random, subject: str, figures: list[Figure], background: Background) -> Scene:
    drawing = Drawing(background.look)
    for figure in figures:
        shade, _, name = figure.colour.rpartition(" ")
        colour = mixed(COLOURS[name], *SHADES[shade]) if shade else COLOURS[name]
        drawing.polygon(
            varied(rng, colour), placed(figure.shape, figure.x, figure.y, figure.radius)
        )
    return Scene(
        phrased(rng, joined(subject, background)), drawing, tuple(figures), background.name
    )


def _near(rng: Random, x: float, y: float, radius: float, reach: float = 0.02) -> tuple[float, ...]:
    """A point near another from which a figure does not leave the picture."""
    room = radius + 0.03
    return tuple(min(1 - room, max(room, part + rng.uniform(-reach, reach))) for part in (x, y))


def one(rng: Random) -> Scene:
    """One shape, perhaps with a size and a place."""
    shape, colour = _shape(rng), rng.choice(list(COLOURS))
    background = _background(rng, colour)
    word, told = spelled(rng, colour), colour
    if colour not in ("black", "white") and rng.random() < 0.05:
        shade = rng.choice(list(SHADES))
        word, told = f"{shade} {word}", f"{shade} {colour}"
    elif rng.random() < 0.04:
        word = ""
    size = _size(rng)
    radius = rng.uniform(*SIZES[size])
    said = rng.choice(_SIZE_WORDS[size]) if size else ""
    subject = " ".join(part for part in (said, word, _named(rng, shape)) if part)
    if rng.random() < 0.85:
        subject = a(subject)
    x, y = _MIDDLE, _MIDDLE
    if rng.random() < 0.3:
        place = rng.choice(list(PLACES))
        x, y = PLACES[place]
        if (x, y) == (_MIDDLE, _MIDDLE):
            place = rng.choice((place, "in the centre", "in the center", "centered"))
        elif x != _MIDDLE and y != _MIDDLE and rng.random() < 0.4:
            place += " corner"
        if not size:
            radius = rng.uniform(0.16, 0.2)
        subject = f"{subject} {place}"
    x, y = _near(rng, x, y, radius)
    return _scene(rng, subject, [Figure(told, shape, x, y, radius)], background)


def several(rng: Random) -> Scene:
    """Two, three or four of a kind."""
    count, shape, colour = rng.choice((2, 3, 4)), _shape(rng), rng.choice(list(COLOURS))
    background = _background(rng, colour)
    size = _size(rng, ("small",), plain=0.85)
    layout = rng.choice(_LAYOUTS[count])
    widest = 0.125 if layout[-1] == (0.8, 0.5) else 0.17
    radius = rng.uniform(0.07, 0.09) if size else rng.uniform(widest - 0.02, widest)
    words = (rng.choice(_COUNTS[count]), size, spelled(rng, colour), plural(_named(rng, shape)))
    figures = [Figure(colour, shape, *_near(rng, *spot, radius), radius) for spot in layout]
    return _scene(rng, " ".join(word for word in words if word), figures, background)


def two(rng: Random) -> Scene:
    """Two shapes beside or above each other."""
    first, second = _shape(rng), _shape(rng)
    colour = rng.choice(list(COLOURS))
    other = other_colour(rng, colour) if rng.random() < 0.85 or first == second else colour
    background = _background(rng, colour, other)
    left = a(f"{spelled(rng, colour)} {_named(rng, first)}")
    right = a(f"{spelled(rng, other)} {_named(rng, second)}")
    relation = rng.choice(
        (
            "and",
            "and",
            "and",
            "and",
            "next to",
            "to the left of",
            "left of",
            "to the right of",
            "right of",
            "above",
            "below",
            "under",
            "over",
        )
    )
    spots = ((0.27, 0.5), (0.73, 0.5))
    if relation in ("above", "over"):
        spots = ((0.5, 0.27), (0.5, 0.73))
    elif relation in ("below", "under"):
        spots = ((0.5, 0.73), (0.5, 0.27))
    elif "right" in relation:
        spots = ((0.73, 0.5), (0.27, 0.5))
    radius = rng.uniform(0.15, 0.19)
    figures = [
        Figure(name, shape, *_near(rng, *spot, radius), radius)
        for name, shape, spot in zip((colour, other), (first, second), spots, strict=True)
    ]
    return _scene(rng, f"{left} {relation} {right}", figures, background)


def three(rng: Random) -> Scene:
    """Three shapes in a row."""
    shapes = [_shape(rng) for _ in range(3)]
    colours = rng.sample(list(COLOURS), 3)
    background = _background(rng, *colours)
    words = [
        a(f"{spelled(rng, colour)} {_named(rng, shape)}")
        for colour, shape in zip(colours, shapes, strict=True)
    ]
    radius = rng.uniform(0.105, 0.125)
    figures = [
        Figure(colour, shape, *_near(rng, x, 0.5, radius), radius)
        for colour, shape, x in zip(colours, shapes, (0.2, 0.5, 0.8), strict=True)
    ]
    return _scene(rng, f"{words[0]}, {words[1]} and {words[2]}", figures, background)


def inside(rng: Random) -> Scene:
    """A small shape inside a big one."""
    outer = rng.choice(("circle", "square", "hexagon", "heart"))
    inner = _shape(rng)
    colours = rng.sample(list(COLOURS), 2)
    background = _background(rng, *colours)
    figures = [
        Figure(colours[1], outer, *_near(rng, 0.5, 0.5, 0.4), rng.uniform(0.36, 0.4)),
        Figure(colours[0], inner, 0.5, 0.48, rng.uniform(0.14, 0.17)),
    ]
    within = rng.choice(("inside", "in", "within"))
    subject = (
        f"{a(f'{spelled(rng, colours[0])} {_named(rng, inner)}')} {within} "
        f"{a(f'{spelled(rng, colours[1])} {_named(rng, outer)}')}"
    )
    return _scene(rng, subject, figures, background)
