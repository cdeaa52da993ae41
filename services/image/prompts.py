"""Prompts as the WebUI writes them: some words weigh more than others.

`(word)` weighs 1.1 times as much, `[word]` as much less, `(word:1.3)` 1.3 times; `BREAK` begins a
new piece; a backslash makes a bracket mean itself. Brackets that are never closed last to the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.errors import InvalidArgument, UnsupportedParameter

_STRONGER: Final = 1.1
_DEEPEST: Final = 100
_HEAVIEST: Final = 1000.0
_TOKEN: Final = re.compile(
    r"""\\[()\[\]\\] | \\ | \( | \[ | :\s*([+-]?[.\d]+)\s*\) | \) | \] | [^\\()\[\]:]+ | :""",
    re.VERBOSE,
)
_BREAK: Final = re.compile(r"\s*\bBREAK\b\s*")
_OTHERS: Final = (
    (re.compile(r"\bAND\b"), "prompts composed by AND are not known here"),
    (
        re.compile(r"(?<!\\)\[[^\[\]]*(?::\s*[.\d]+\s*|\|[^\[\]]*)\]"),
        "prompts that change while drawing ([a:b:0.5], [a|b]) are not known here",
    ),
)


@dataclass(frozen=True, slots=True)
class Part:
    """Some words of a prompt and how much they weigh."""

    text: str
    weight: float = 1.0


def plain(text: str) -> Sequence[Sequence[Part]]:
    """A prompt in which brackets are brackets."""
    return [[Part(text)]]


def weighted(text: str, field: str = "prompt") -> Sequence[Sequence[Part]]:
    """Reads a prompt: the parts between two `BREAK`s, for each such stretch.

    Raises:
        UnsupportedParameter: it has syntax of the WebUI that would do more than weigh words.
        InvalidArgument: its brackets are too deep, or a weight is too large.
    """
    for pattern, why in _OTHERS:
        if pattern.search(text):
            raise UnsupportedParameter(
                f"'{field}': {why}. Leave them out, or put a backslash before brackets that are "
                "meant as such.",
                field=field,
            )
    return [_parts(stretch, field) for stretch in _BREAK.split(text)]


def _parts(text: str, field: str) -> Sequence[Part]:
    texts: list[str] = []
    weights: list[float] = []
    round_ones: list[int] = []
    square_ones: list[int] = []

    def weigh(start: int, factor: float) -> None:
        for place in range(start, len(weights)):
            weights[place] *= factor
            if abs(weights[place]) > _HEAVIEST:
                raise InvalidArgument(
                    f"'{field}': a word weighs more than {_HEAVIEST:g}.", field=field
                )

    for found in _TOKEN.finditer(text):
        token, weight = found.group(0), found.group(1)
        if token in "([":
            ones = round_ones if token == "(" else square_ones
            ones.append(len(texts))
            if len(ones) > _DEEPEST:
                raise InvalidArgument(
                    f"'{field}': brackets in brackets, more than {_DEEPEST} deep.", field=field
                )
        elif weight is not None and round_ones and (given := _number(weight)) is not None:
            weigh(round_ones.pop(), given)
        elif token == ")" and round_ones:
            weigh(round_ones.pop(), _STRONGER)
        elif token == "]" and square_ones:
            weigh(square_ones.pop(), 1 / _STRONGER)
        else:
            texts.append(token[1:] if len(token) == 2 and token[0] == "\\" else token)
            weights.append(1.0)
    for start in round_ones:
        weigh(start, _STRONGER)
    for start in square_ones:
        weigh(start, 1 / _STRONGER)
    return _joined(texts, weights)


def _joined(texts: Sequence[str], weights: Sequence[float]) -> Sequence[Part]:
    """Parts, with neighbours of one weight put together."""
    made: list[Part] = []
    for text, weight in zip(texts, weights, strict=True):
        if made and made[-1].weight == weight:
            made[-1] = Part(made[-1].text + text, weight)
        else:
            made.append(Part(text, weight))
    return made or [Part("")]


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
