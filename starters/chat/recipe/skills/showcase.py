"""The questions that people try first: always in training, and therefore never in the exam."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe.conversation import Example, exchange, normalise
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.skills.statements import rough
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks

_TOPICS: Final = blocks("showcase")
QUESTIONS: Final = frozenset(normalise(asked) for _, said in _TOPICS for asked in said)


def showcase(source: Source) -> Example:
    """One of the first questions."""
    answer, said = source.pick(_TOPICS)
    return with_style(source, exchange(rough(source, source.pick(said)), answer))
