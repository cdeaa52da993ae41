"""The colours that captions name."""

from __future__ import annotations

from random import Random
from typing import Final

RGB = tuple[int, int, int]

COLOURS: Final[dict[str, RGB]] = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 215, 50),
    "green": (50, 160, 70),
    "blue": (45, 90, 210),
    "purple": (130, 60, 175),
    "pink": (245, 150, 190),
    "brown": (125, 75, 40),
    "black": (20, 20, 25),
    "white": (250, 250, 250),
    "grey": (140, 140, 145),
    "cyan": (60, 200, 210),
}
"""What each name looks like."""

SPELLINGS: Final[dict[str, tuple[str, ...]]] = {
    "grey": ("grey", "gray"),
    "cyan": ("cyan", "cyan", "turquoise"),
    "purple": ("purple", "purple", "violet"),
}
"""Colours that are written in several ways."""

SHADES: Final[dict[str, tuple[RGB, float]]] = {
    "dark": (COLOURS["black"], 0.4),
    "light": (COLOURS["white"], 0.45),
}
"""What a word before a colour mixes into it, and how much of it."""

_JITTER: Final = 5


def mixed(one: RGB, other: RGB, share: float) -> RGB:
    """Goes from one colour towards another."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def varied(rng: Random, colour: RGB) -> RGB:
    """A colour that nobody could tell from the given one."""
    red, green, blue = (min(255, max(0, part + rng.randint(-_JITTER, _JITTER))) for part in colour)
    return red, green, blue


def spelled(rng: Random, name: str) -> str:
    """One of the ways to write a colour's name."""
    return rng.choice(SPELLINGS.get(name, (name,)))


def nearest(colour: tuple[float, float, float]) -> str:
    """The name of the nearest colour, with more weight on the channels that eyes weigh more."""

    def distance(name: str) -> float:
        there = COLOURS[name]
        return sum(
            weight * (a - b) ** 2 for weight, a, b in zip((2, 4, 3), colour, there, strict=True)
        )

    return min(COLOURS, key=distance)
