"""A captioned scene, and the split that keeps the exam apart from training."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from random import Random
from typing import Final

from starters.image.recipe.colours import COLOURS, RGB, SHADES, mixed, spelled, varied
from starters.image.recipe.drawing import Drawing, Gradient

_HELD_OUT_SHARE: Final = 0.125
_FIRST_TRIED: Final = frozenset({"red circle blue", "blue square white", "yellow star blue"})


@dataclass(frozen=True, slots=True)
class Figure:
    """A shape in a scene."""

    colour: str
    shape: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Background:
    """What is behind the figures: its words (None where the caption is silent) and its look."""

    phrase: str | None
    look: Gradient
    name: str | None


@dataclass(frozen=True, slots=True)
class Scene:
    """A drawing, its caption, and what an exam may look for in it."""

    caption: str
    drawing: Drawing
    figures: tuple[Figure, ...] = ()
    background: str | None = None
    moment: str | None = None


def is_held_out(combination: str) -> bool:
    """Says whether a combination belongs to the exam; the rest belongs to training."""
    if combination in _FIRST_TRIED:
        return False
    digest = hashlib.sha256(f"penstock-starter-image:{combination}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD_OUT_SHARE * 2**32


def combinations(figures: tuple[Figure, ...], background: str | None) -> list[str]:
    """The combinations in a scene that are either trained or examined, never both."""
    made = [f"{f.colour} {f.shape} {background}" for f in figures if background]
    if len(figures) == 2:
        made.append(" ".join(f"{f.colour} {f.shape}" for f in figures))
    return made


def a(phrase: str) -> str:
    """A phrase with its article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def other_colour(rng: Random, *used: str) -> str:
    """A colour that is none of the given."""
    return rng.choice([name for name in COLOURS if name not in used])


def solid(rng: Random, name: str, *, shades: bool = True) -> Background:
    """A background of one colour."""
    colour, word, told = COLOURS[name], spelled(rng, name), name
    if shades and name not in ("black", "white") and rng.random() < 0.08:
        shade = rng.choice(list(SHADES))
        colour, word, told = mixed(colour, *SHADES[shade]), f"{shade} {word}", f"{shade} {name}"
    phrase = rng.choice(
        (
            f"on {word}",
            f"on {a(word)} background",
            f"on {a(word)} background",
            f"against {a(word)} background",
            f"with {a(word)} background",
            f"on {word} background",
            f", {word} background",
            f"over {word}",
        )
    )
    look = varied(rng, colour)
    return Background(phrase, Gradient(look, look), told)


def gradient(rng: Random, *avoided: str) -> Background:
    """A background that goes from one colour to another."""
    first = other_colour(rng, *avoided)
    second = other_colour(rng, first, *avoided)
    one, two = spelled(rng, first), spelled(rng, second)
    sideways = rng.random() < 0.2
    if sideways:
        phrase = rng.choice(
            (
                f"on a horizontal gradient from {one} to {two}",
                f"on a gradient from {one} on the left to {two} on the right",
            )
        )
    else:
        phrase = rng.choice(
            (
                f"on a gradient from {one} to {two}",
                f"on {a(one)} to {two} gradient",
                f"with a gradient background from {one} to {two}",
            )
        )
    look = Gradient(varied(rng, COLOURS[first]), varied(rng, COLOURS[second]), sideways)
    return Background(phrase, look, None)


def silent(rng: Random, *avoided: str) -> Background:
    """A background that the caption does not name: most often white."""
    name = "white"
    if name in avoided or rng.random() < 0.4:
        name = other_colour(rng, *avoided)
    look: RGB = varied(rng, COLOURS[name])
    return Background(None, Gradient(look, look), None)


def joined(subject: str, background: Background) -> str:
    """A caption of a subject and its background."""
    if background.phrase is None:
        return subject
    return f"{subject} {background.phrase}".replace(" ,", ",")


_OPENINGS: Final = (
    "a picture of",
    "an image of",
    "a drawing of",
    "an illustration of",
    "draw",
    "a photo of",
    "please draw",
    "generate",
    "make",
    "a painting of",
    "i want",
    "show me",
    "paint",
    "create an image of",
    "a flat drawing of",
)
_ENDINGS: Final = (
    ", flat design",
    ", simple",
    ", high quality",
    ", minimalist",
    ".",
    "!",
    ", clean",
    ", best quality",
    ", vector art",
    " please",
    ", detailed",
    ", 4k",
    ", masterpiece",
)


def phrased(rng: Random, caption: str) -> str:
    """A caption as people write it: with or without opening and ending."""
    if rng.random() < 0.25:
        caption = f"{rng.choice(_OPENINGS)} {caption}"
    if rng.random() < 0.15:
        caption = caption + rng.choice(_ENDINGS)
    return caption
