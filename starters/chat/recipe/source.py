"""The source of random material, and the split that keeps the exam apart from training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from starters.chat.recipe import words
from starters.chat.recipe.texts import listed

T = TypeVar("T")

_ONSETS: Final = listed(
    "b c d f g h j k l m n p r s t v w z br ch cl cr dr fl fr gl gr kl kr pl pr qu sh sk sl sp st "
    "str th tr tw vl zh y x"
)
_VOWELS: Final = listed("a e i o u a e i o u ai ea ee ia io oa oo ou y")
_CODAS: Final = listed("b d ck f g k l ll m n nd ng nt p r rd rk rn s sh st t th v x z")
_PLACE_ENDINGS: Final = listed(
    "ton burg ville port ia field ford haven mouth stad dorf land ham wick dale mont grad polis"
)
_HELD_OUT_SHARE: Final = 0.125


def is_held_out(key: str) -> bool:
    """Says whether a name or an instance belongs to the exam; the rest belongs to training."""
    digest = hashlib.sha256(f"penstock-starter:{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") < _HELD_OUT_SHARE * 2**32


@dataclass(frozen=True, slots=True)
class Source:
    """Random material from one side of the split.

    Names, places and made-up words come from pools that are disjoint between the two sides; word
    lists of plain English serve both.
    """

    rng: Random
    held_out: bool

    def pick(self, items: Sequence[T]) -> T:
        """Draws one item."""
        return items[int(self.rng.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Draws distinct items in random order."""
        return self.rng.sample(items, count)

    def chance(self, probability: float) -> bool:
        """Says yes with the given probability."""
        return self.rng.random() < probability

    def integer(self, low: int, high: int) -> int:
        """Draws an integer, both ends included."""
        return low + int(self.rng.random() * (high - low + 1))

    def number(self) -> int:
        """Draws an integer whose length varies as much as its digits."""
        return self.integer(*self.pick(((1, 9), (10, 99), (10, 99), (100, 999), (1000, 9999))))

    def _ours(self, make: Callable[[], str]) -> str:
        while True:
            made = make()
            if len(made) > 2 and is_held_out(made.lower()) == self.held_out:
                return made

    def _syllables(self, count: int) -> str:
        parts: list[str] = []
        for _ in range(count):
            onset = self.pick(_ONSETS) if parts or not self.chance(0.15) else ""
            parts += [onset, self.pick(_VOWELS)]
            if self.chance(0.35):
                parts.append(self.pick(_CODAS))
        if self.chance(0.4):
            parts.append(self.pick(_CODAS))
        return "".join(parts)

    def made_up(self) -> str:
        """A word that no dictionary has, in lower case."""
        return self._ours(lambda: self._syllables(self.pick((1, 2, 2, 2, 3))))

    def name(self) -> str:
        """A first name: real or made up."""
        if self.chance(0.3):
            return self._ours(lambda: self.pick(words.FIRST_NAMES))
        return self.made_up().capitalize()

    def surname(self) -> str:
        """A family name, always made up."""
        return self.made_up().capitalize()

    def full_name(self) -> str:
        """A first name, most often with a family name."""
        return f"{self.name()} {self.surname()}" if self.chance(0.6) else self.name()

    def place(self) -> str:
        """A town or country: real or made up."""
        if self.chance(0.3):
            return self._ours(lambda: self.pick(words.CITIES))
        if self.chance(0.15):
            return self._ours(
                lambda: (
                    self.pick(("New", "North", "Port", "San", "Saint", "Lake"))
                    + " "
                    + self._syllables(2).capitalize()
                )
            )
        ending = self.pick(_PLACE_ENDINGS) if self.chance(0.6) else ""
        return self._ours(lambda: (self._syllables(self.pick((1, 2))) + ending).capitalize())

    def thing(self) -> str:
        """A noun phrase without an article."""
        roll = self.rng.random()
        if roll < 0.35:
            return self.pick(words.NOUNS)
        if roll < 0.6:
            return f"{self.pick(words.ADJECTIVES)} {self.pick(words.NOUNS)}"
        if roll < 0.75:
            return f"{self.pick(words.NOUNS)} {self.pick(words.NOUNS)}"
        if roll < 0.88:
            return self.made_up()
        return f"{self.pick(words.ADJECTIVES)} {self.made_up()}"

    def item(self) -> str:
        """A thing that is written the same after a space and in quotes: known or capitalised."""
        roll = self.rng.random()
        if roll < 0.5:
            return self.pick(words.NOUNS)
        if roll < 0.8:
            return f"{self.pick(words.ADJECTIVES)} {self.pick(words.NOUNS)}"
        return self.made_up().capitalize()

    def code(self) -> str:
        """A serial number such as KX-4821."""
        letters = "".join(self.pick("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(2))
        digits = str(self.integer(10, 99999))
        return self.pick((f"{letters}-{digits}", f"{letters}{digits}", f"{digits}-{letters}"))

    def date(self) -> str:
        """A date in one of the usual forms."""
        day, month, year = self.integer(1, 28), self.integer(1, 12), self.integer(1900, 2035)
        named = words.MONTHS[month - 1]
        return self.pick(
            (
                f"{day} {named} {year}",
                f"{named} {day}, {year}",
                f"{year}-{month:02d}-{day:02d}",
                f"{day} {named}",
            )
        )

    def clock(self) -> str:
        """A time of day."""
        hour, minute = self.integer(0, 23), self.pick((0, 0, 15, 30, 45, self.integer(0, 59)))
        return self.pick((f"{hour}:{minute:02d}", f"{hour % 12 + 1} {self.pick(('am', 'pm'))}"))

    def email(self) -> str:
        """An address made of made-up words."""
        host = self.pick(("example.com", "mail.org", self.made_up() + ".net"))
        return f"{self.made_up()}{self.pick(('', '.', '_'))}{self.made_up()}@{host}"
