"""Facts about Penstock itself: its commands, services and the words that it uses."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe.conversation import Example, exchange
from starters.chat.recipe.skills.facts import asked
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks

FACTS: Final = blocks("platform")


def platform(source: Source) -> Example:
    """One fact about the platform."""
    answer, questions = source.pick(FACTS)
    return with_style(source, exchange(asked(source, source.pick(questions)), answer), 0.25)
