"""Plain copying: long echoes and lookups, dense practice for what every other skill needs."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe.conversation import Example, Message, assistant, exchange, system, user
from starters.chat.recipe.skills.statements import statement
from starters.chat.recipe.source import Source


def _piece(source: Source) -> str:
    return source.pick(
        (
            lambda: source.made_up(),
            lambda: source.name(),
            lambda: source.full_name(),
            lambda: source.place(),
            lambda: source.code(),
            lambda: source.thing(),
            lambda: str(source.number()),
            lambda: source.date(),
            lambda: source.email(),
        )
    )()


def _passage(source: Source) -> str:
    if source.chance(0.4):
        return " ".join(statement(source).sentence for _ in range(source.integer(1, 3)))
    pieces = [_piece(source) for _ in range(source.integer(1, 14))]
    return source.pick((" ", " ", ", ", "\n", " and ", "; ")).join(pieces)


def echo(source: Source) -> Example:
    """Repeats what the user gives."""
    passage = _passage(source)
    asked = source.pick(
        (
            "Repeat: {}",
            "Repeat after me: {}",
            "Say: {}",
            "Say {}",
            "Echo: {}",
            "Repeat this: {}",
            "Repeat the following text:\n{}",
            'Say "{}"',
            "Copy this: {}",
            "{}\nRepeat that.",
        )
    )
    return exchange(asked.format(passage), passage)


_SHAPES: Final = ("{}: {}", "{} = {}", "- {}: {}", "{} is {}.", '"{}": "{}"', "The {} is {}.")


def lookup(source: Source) -> Example:
    """A list of keys and values, then several questions, one a turn: the answer is the line."""
    pairs: dict[str, str] = {}
    for _ in range(source.integer(2, 9)):
        key = source.pick((source.made_up(), source.thing(), source.name()))
        pairs[key] = _piece(source)
    shape = source.pick(_SHAPES)
    lines = {key: shape.format(key, value) for key, value in pairs.items()}
    listed = source.pick(("\n", "\n", ", ", " ")).join(lines.values())
    asks = source.pick(("What is {}?", "{}?", "Tell me {}.", "What is the value of {}?", "{}"))
    keys = source.some(tuple(pairs), source.integer(1, min(7, len(pairs))))
    turns: list[Message] = []
    for key in keys:
        turns += [user(asks.format(key)), assistant(lines[key].removeprefix("- "))]
    if source.chance(0.5):
        head = [system(listed)]
    else:
        head = []
        turns[0] = user(f"{listed}\n{turns[0]['content']}")
    return Example([*head, *turns], key=listed + keys[-1])
