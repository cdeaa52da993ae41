"""Small orders: repeat, count, list, and short poems."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Example, exchange
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.skills.statements import capitalised, rough, statement
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import listed

_LISTS: Final[dict[str, tuple[str, ...]]] = {
    "colours": (
        "red",
        "blue",
        "green",
        "yellow",
        "orange",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
    ),
    "colors": (
        "red",
        "blue",
        "green",
        "yellow",
        "orange",
        "purple",
        "pink",
        "brown",
        "black",
        "white",
    ),
    "animals": ("dog", "cat", "horse", "cow", "sheep", "lion", "tiger", "bear", "fox", "owl"),
    "fruits": (
        "apple",
        "pear",
        "orange",
        "banana",
        "cherry",
        "plum",
        "grape",
        "melon",
        "lemon",
        "fig",
    ),
    "vegetables": (
        "carrot",
        "potato",
        "onion",
        "tomato",
        "bean",
        "pea",
        "corn",
        "leek",
        "kale",
        "beet",
    ),
    "planets": ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"),
    "days of the week": words.DAYS,
    "months": words.MONTHS,
    "countries": ("France", "Germany", "Spain", "Italy", "Japan", "Brazil", "Egypt", "Canada"),
    "cities": ("Paris", "London", "Berlin", "Madrid", "Rome", "Tokyo", "Cairo", "Lima"),
    "letters": tuple("ABCDEFGHIJ"),
    "birds": ("robin", "sparrow", "owl", "eagle", "swan", "raven", "duck", "crow"),
}


def _echo(source: Source) -> tuple[str, str]:
    said = source.pick(
        (
            lambda: statement(source).sentence,
            lambda: source.full_name(),
            lambda: source.thing(),
            lambda: source.made_up(),
            lambda: f"hello {source.name()}",
            lambda: source.code(),
            lambda: "This is a test.",
            lambda: f"{source.thing()} and {source.thing()}",
            lambda: " ".join(source.made_up() for _ in range(source.integer(2, 6))),
            lambda: str(source.number()),
            lambda: f"This is a {source.thing()}!",
        )
    )()
    asked = source.pick(
        (
            "Say {}",
            "Repeat: {}",
            "Repeat after me: {}",
            'Say "{}"',
            "Echo {}",
            "Please say: {}",
            "Repeat this: {}",
            "Say: {}",
            "say {}",
            "Just say {}",
            "Repeat the following: {}",
            "Reply with exactly: {}",
            "Answer with: {}",
            "Echo: {}",
            'Reply with "{}"',
        )
    ).format(said)
    return asked, said


def _count(source: Source) -> tuple[str, str]:
    start, end = (1, source.integer(2, 20)) if source.chance(0.7) else (0, 0)
    if not end:
        start = source.integer(2, 50)
        end = start + source.integer(2, 12)
    if source.chance(0.15):
        return (
            f"Count down from {min(end, 20)} to 1.",
            ", ".join(str(n) for n in range(min(end, 20), 0, -1)) + ".",
        )
    told = source.pick(
        (
            "Count from {} to {}.",
            "count from {} to {}",
            "Count {} to {}",
            "Please count from {} to {}.",
            "List the numbers from {} to {}.",
        )
    )
    asked = told.format(start, end)
    if start == 1 and source.chance(0.5):
        asked = source.pick(("Count to {}.", "count to {}", "Can you count to {}?")).format(end)
    return asked, ", ".join(str(n) for n in range(start, end + 1)) + "."


def _list(source: Source) -> tuple[str, str]:
    topic = source.pick(tuple(_LISTS))
    items = _LISTS[topic]
    count = source.integer(2, min(5, len(items)))
    number = source.pick((str(count), words.NUMBER_WORDS[count]))
    asked = source.pick(
        (
            "List {} {}.",
            "Name {} {}.",
            "Give me {} {}.",
            "Tell me {} {}.",
            "name {} {}",
            "Can you name {} {}?",
            "Write down {} {}.",
        )
    )
    return (
        asked.format(number, topic),
        "\n".join(f"{i}. {capitalised(item)}" for i, item in enumerate(items[:count], 1)),
    )


def _poem(source: Source) -> tuple[str, str]:
    topic = source.pick(words.NOUNS + words.ANIMALS)
    asked, where = source.pick(
        (
            ("Write a poem about a {}.", "by the sea"),
            ("Write a short poem about the {}.", "in the night"),
            ("A poem about a {} please.", "under the moon"),
            ("write a haiku about a {}", "on the hill"),
            ("Compose a poem about a {}.", "by the sea"),
        )
    )
    poem = (
        f"A little {topic} {where},\n"
        f"it dreams of all that it could be.\nThe wind is soft, the stars are bright,\n"
        f"sleep well, dear {topic}, and good night."
    )
    return asked.format(topic), poem


def _opposite(source: Source) -> tuple[str, str]:
    first, second = source.pick(_OPPOSITES)
    if source.chance(0.5):
        first, second = second, first
    asked = source.pick(
        (
            "What is the opposite of {}?",
            "opposite of {}",
            "Tell me the opposite of {}.",
            "What's the opposite of {}?",
            "Give me the opposite of {}.",
            "Which word is the opposite of {}?",
            "Do you know the opposite of {}?",
        )
    )
    return asked.format(first), f"The opposite of {first} is {second}."


_OPPOSITES: Final = tuple(
    tuple(pair.split("-"))
    for pair in listed(
        "hot-cold big-small fast-slow old-young light-dark good-bad high-low long-short hard-soft "
        "wet-dry full-empty open-closed rich-poor happy-sad early-late strong-weak thick-thin "
        "loud-quiet near-far up-down left-right day-night black-white clean-dirty sweet-sour "
        "true-false yes-no start-end first-last inside-outside love-hate war-peace easy-difficult"
    )
)
_ORDERS: Final[tuple[Callable[[Source], tuple[str, str]], ...]] = (
    _echo,
    _echo,
    _count,
    _list,
    _poem,
    _opposite,
)


def order(source: Source) -> Example:
    """One small order."""
    asked, answer = source.pick(_ORDERS)(source)
    if source.chance(0.15) and asked.rstrip("?.") + "." != answer:
        asked = rough(source, asked) if answer not in asked else asked
    return with_style(source, exchange(asked, answer), 0.15)
