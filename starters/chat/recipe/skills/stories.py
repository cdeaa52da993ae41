"""Short stories from a grammar: a hero, a place, a wish, a trouble, a friend, an end."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Example, exchange
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.skills.statements import articled
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks

_LINES: Final = dict(blocks("stories"))


def story(source: Source, kind: str, name: str) -> str:
    """Tells a story of seven to nine sentences about a hero."""
    trait, other_trait = source.some(_LINES["traits"], 2)
    kind2 = source.pick([animal for animal in words.ANIMALS[:50] if animal != kind])
    name2 = source.name()
    while name2 == name:
        name2 = source.name()
    parts = [
        source.pick(_LINES["openings"]),
        source.pick(_LINES["wishes"]),
        source.pick(_LINES["troubles"]),
        source.pick(_LINES["meetings"]),
        source.pick(_LINES["talks"]),
        *source.some(_LINES["deeds"], source.pick((1, 1, 2))),
        source.pick(_LINES["endings"]),
    ]
    told = " ".join(parts).format(
        k=kind,
        n=name,
        a=trait,
        p=source.pick(_LINES["places"]),
        k2=kind2,
        n2=name2,
        a2=other_trait,
        o=source.pick(("key", "lamp", "bell", "map", "ring", "drum", "box")),
        f=source.pick(("soup", "pie", "cake", "stew")),
    )
    return articled(told) + source.pick((" The end.", ""))


def _hero(source: Source) -> str:
    return source.pick(
        (
            *words.ANIMALS,
            *words.ANIMALS,
            "robot",
            "wizard",
            "princess",
            "pirate",
            "girl",
            "boy",
            "knight",
            "king",
            "queen",
            "giant",
            "star",
            "train",
            "boat",
            "tree",
            *words.JOBS[:12],
            source.pick(words.NOUNS),
            source.made_up(),
        )
    )


def any_story(source: Source) -> Example:
    """A story with a hero that the request may describe and name."""
    kind, name = _hero(source), source.name()
    roll = source.rng.random()
    if roll < 0.35:
        kind = source.pick(words.ANIMALS[:50])
        request, accept = source.pick(_LINES["any"]), ("",)
    elif roll < 0.7:
        request, accept = articled(source.pick(_LINES["about"]).format(k=kind)), (kind,)
    else:
        request, accept = (
            articled(source.pick(_LINES["named"]).format(k=kind, n=name)),
            (f"{name}|{kind}",),
        )
    if source.chance(0.1):
        request = request.lower() if accept == ("",) else request.rstrip(".?")
    example = exchange(
        request, story(source, kind, name), accept=accept, judge="story", key=f"{kind} {name}"
    )
    return with_style(source, example, 0.15)
