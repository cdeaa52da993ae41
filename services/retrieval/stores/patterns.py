"""Patterns of LIKE and ILIKE: `%` is any text, `_` any character, a backslash takes the next one
as it is."""

import re
from collections.abc import Iterator
from functools import cache, lru_cache

_LAST_CASED = 0x1FFFF
"""No letter beyond has case."""


def _parts(pattern: str) -> Iterator[tuple[str, bool]]:
    """Yields characters, and whether they stand for others."""
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            yield next(characters, "\\"), False
        else:
            yield character, character in "%_"


def escaped(pattern: str) -> str:
    """Returns the pattern in a form that every database takes: escapes only where needed."""
    return "".join(
        character if wild or character not in "%_\\" else "\\" + character
        for character, wild in _parts(pattern)
    )


@lru_cache(maxsize=256)
def matcher(pattern: str) -> re.Pattern[str]:
    """Returns the pattern as a regular expression for whole texts."""
    pieces = [""]
    for character, wild in _parts(pattern):
        if wild and character == "%":
            pieces.append("")
        else:
            pieces[-1] += "." if wild else re.escape(character)
    first, *middle, last = pieces if len(pieces) > 1 else (*pieces, None)
    if last is None:
        return re.compile(first, re.DOTALL)
    # The first place where a piece fits is as good as any later one, so it is never given up: the
    # time it takes stays small.
    body = "".join(f"(?>.*?{piece})" for piece in middle if piece)
    return re.compile(f"{first}{body}.*{last}", re.DOTALL)


def folded(text: str) -> str:
    """Returns the text without case. Each character stays one character."""
    return text.translate(_folds())


def folds_into(characters: str) -> tuple[str, str]:
    """Returns the characters that fold into any of these, and beside them what they fold into."""
    wanted = set(characters)
    pairs = [(source, target) for source, target in _folds().items() if target in wanted]
    return "".join(chr(source) for source, _ in pairs), "".join(target for _, target in pairs)


@cache
def _folds() -> dict[int, str]:
    folds: dict[int, str] = {}
    for code in range(_LAST_CASED + 1):
        character = chr(code)
        for folded_character in (character.casefold(), character.lower()):
            if len(folded_character) == 1:
                if folded_character != character:
                    folds[code] = folded_character
                break
    return folds
