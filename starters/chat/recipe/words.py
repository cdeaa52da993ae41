"""Word lists that the generators draw from: plain English, written for this recipe."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe import texts

_LISTS: Final = texts.words("words")
NOUNS: Final = _LISTS["nouns"]
ADJECTIVES: Final = _LISTS["adjectives"]
COLOURS: Final = _LISTS["colours"]
MATERIALS: Final = _LISTS["materials"]
FOODS: Final = _LISTS["foods"]
JOBS: Final = _LISTS["jobs"]
ANIMALS: Final = _LISTS["animals"]
FIRST_NAMES: Final = _LISTS["first_names"]
CITIES: Final = _LISTS["cities"]
MONTHS: Final = _LISTS["months"]
DAYS: Final = _LISTS["days"]
VERBS: Final = _LISTS["verbs"]
NUMBER_WORDS: Final = _LISTS["number_words"]
