"""Which kinds of scene there are, their shares, and how one is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Final

from starters.image.recipe.scenes.figures import inside, one, several, three, two
from starters.image.recipe.scenes.landscapes import landscape
from starters.image.recipe.scenes.patterns import fading, plain, stripes
from starters.image.recipe.scenes.scene import Scene, combinations, is_held_out
from starters.image.recipe.scenes.things import thing

SEED: Final = 20261122

KINDS: Final[dict[str, tuple[Callable[[Random], Scene], float]]] = {
    "one": (one, 0.38),
    "several": (several, 0.14),
    "two": (two, 0.18),
    "three": (three, 0.02),
    "inside": (inside, 0.03),
    "thing": (thing, 0.08),
    "landscape": (landscape, 0.11),
    "plain": (plain, 0.01),
    "fading": (fading, 0.015),
    "stripes": (stripes, 0.015),
}
"""Each kind of scene and its share of training, before the captions that name nothing."""

SHARES: Final[Mapping[str, float]] = {name: share for name, (_, share) in KINDS.items()}

FINISHING: Final[Mapping[str, float]] = {
    "one": 0.5,
    "several": 0.12,
    "two": 0.17,
    "three": 0.02,
    "inside": 0.02,
    "thing": 0.06,
    "landscape": 0.08,
    "plain": 0.01,
    "fading": 0.01,
    "stripes": 0.01,
}
"""The shares of the last lesson, of which half is a shape by itself."""

_VAGUE_SHARE: Final = 0.03
_VAGUE: Final = (
    "something beautiful",
    "a picture",
    "anything",
    "surprise me",
    "art",
    "hello",
    "a masterpiece",
    "an image",
    "something nice",
    "a test",
    "test",
    "draw something",
    "beautiful",
    "something",
    "a nice picture",
    "abstract art",
    "hi",
    "wow",
)
_SYLLABLES: Final = (
    "ba",
    "ke",
    "lo",
    "mi",
    "ru",
    "ta",
    "sha",
    "ven",
    "dor",
    "pi",
    "gra",
    "cat",
    "dog",
    "man",
    "car",
    "ing",
    "er",
    "el",
    "on",
    "qu",
    "zu",
    "hor",
    "se",
    "ly",
)


def draw(kind: str, rng: Random, *, held_out: bool = False) -> Scene:
    """Draws a scene of a kind from one side of the split."""
    make = KINDS[kind][0]
    while True:
        scene = make(rng)
        if _ours(scene, held_out):
            return scene


def _ours(scene: Scene, held_out: bool) -> bool:
    tested = [is_held_out(each) for each in combinations(scene.figures, scene.background)]
    return any(tested) if held_out else not any(tested)


def sampled(rng: Random, shares: Mapping[str, float] = SHARES) -> Scene:
    """Draws a scene for training; a few have captions that say nothing about them."""
    if rng.random() < _VAGUE_SHARE:
        scene = draw(rng.choice(("one", "landscape", "landscape", "thing")), rng)
        return replace(scene, caption=_vague(rng))
    return draw(rng.choices(list(shares), list(shares.values()))[0], rng)


def _vague(rng: Random) -> str:
    if rng.random() < 0.5:
        return rng.choice(_VAGUE)
    words = (
        "".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(rng.randint(1, 4))
    )
    return " ".join(words)
