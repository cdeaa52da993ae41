"""Pictures without a subject: plain colours, gradients, stripes, checks and spots."""

from __future__ import annotations

from random import Random

from starters.image.recipe.colours import COLOURS, spelled, varied
from starters.image.recipe.drawing import Drawing
from starters.image.recipe.scenes.scene import Scene, a, gradient, other_colour, phrased


def plain(rng: Random) -> Scene:
    """One colour."""
    name = rng.choice(list(COLOURS))
    word = spelled(rng, name)
    caption = rng.choice(
        (
            f"{a(word)} background",
            f"plain {word}",
            word,
            f"solid {word}",
            f"an empty {word} background",
        )
    )
    return Scene(phrased(rng, caption), Drawing.on(varied(rng, COLOURS[name])), (), name)


def fading(rng: Random) -> Scene:
    """A gradient."""
    background = gradient(rng)
    phrase = (background.phrase or "").removeprefix("on ").removeprefix("with ")
    return Scene(phrased(rng, phrase), Drawing(background.look))


def stripes(rng: Random) -> Scene:
    """Stripes or checks of two colours."""
    first = rng.choice(list(COLOURS))
    second = other_colour(rng, first)
    one, two = spelled(rng, first), spelled(rng, second)
    drawing = Drawing.on(varied(rng, COLOURS[first]))
    colour, kind = varied(rng, COLOURS[second]), rng.choice(("across", "down", "checks", "dots"))
    count = 8
    for row in range(count):
        at = row / count
        if kind == "across" and row % 2:
            drawing.box(colour, 0, at, 1, at + 1 / count)
        elif kind == "down" and row % 2:
            drawing.box(colour, at, 0, at + 1 / count, 1)
        for column in range(count):
            left = column / count
            if kind == "checks" and (row + column) % 2:
                drawing.box(colour, left, at, left + 1 / count, at + 1 / count)
            elif kind == "dots" and (row + column) % 2:
                drawing.ellipse(colour, left + 0.5 / count, at + 0.5 / count, 0.042, 0.042)
    caption = {
        "across": rng.choice((f"{one} and {two} horizontal stripes", f"{one} and {two} stripes")),
        "down": f"{one} and {two} vertical stripes",
        "checks": rng.choice((f"{a(one)} and {two} checkerboard", f"{one} and {two} checks")),
        "dots": f"{two} dots on {one}",
    }[kind]
    return Scene(phrased(rng, caption), drawing)
