"""Statements that no model can know: a sentence, and the questions that it answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from starters.chat.recipe import words
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks, listed


@dataclass(frozen=True, slots=True)
class Relation:
    """What can be said of a kind of subject, and asked about it.

    In the templates {s} is the subject and {v} the value.
    """

    kind: str
    says: tuple[str, ...]
    asks: tuple[str, ...]
    value: Callable[[Source], str]


@dataclass(frozen=True, slots=True)
class Statement:
    """One made-up fact."""

    relation: Relation
    kind: str
    subject: str
    sentence: str

    def ask(self, source: Source) -> str:
        """A question that this statement answers, in one of many wordings and casings."""
        asked = source.pick(self.relation.asks).format(s=self.subject)
        return rough(source, capitalised(asked))


def capitalised(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def articled(text: str) -> str:
    """The text with "a" turned into "an" where a vowel follows."""
    return re.sub(r"\b([Aa]) (?=[aeio]|u(?!ni|s))", r"\1n ", text)


def rough(source: Source, question: str) -> str:
    """The question as people type it: now and then without case or the question mark."""
    roll = source.rng.random()
    if roll < 0.80:
        return question
    if roll < 0.90:
        return question.rstrip("?.!")
    if roll < 0.96:
        return question.lower()
    return question[:1].lower() + question[1:]


def _amount(source: Source) -> str:
    unit = source.pick(_UNITS)
    return f"{source.number()} {unit}"


def _price(source: Source) -> str:
    amount = f"{source.integer(1, 999)}" + source.pick(("", "", f".{source.integer(10, 99)}"))
    return source.pick((f"{amount} euros", f"{amount} dollars", f"${amount}", f"{amount} pounds"))


_UNITS: Final = listed(
    "metres kilometres litres kilograms grams miles hours days minutes pages seats rooms points "
    "requests"
)
_SPANS: Final = ("days", "hours", "minutes", "weeks", "months")
_VALUES: Final[dict[str, Callable[[Source], str]]] = {
    "adjective": lambda s: s.pick((s.pick(words.ADJECTIVES), s.made_up())),
    "amount": _amount,
    "animal": lambda s: s.pick(words.ANIMALS),
    "code": lambda s: s.code(),
    "colour": lambda s: s.pick(words.COLOURS),
    "count": lambda s: str(s.integer(2, 999)),
    "date": lambda s: s.date(),
    "day": lambda s: s.pick(words.DAYS),
    "email": lambda s: s.email(),
    "food": lambda s: s.pick((s.pick(words.FOODS), s.thing())),
    "job": lambda s: s.pick(words.JOBS),
    "language": lambda s: s.made_up().capitalize(),
    "material": lambda s: s.pick((s.pick(words.MATERIALS), s.made_up())),
    "noun": lambda s: s.thing(),
    "person": lambda s: s.full_name(),
    "place": lambda s: s.place(),
    "port": lambda s: str(s.integer(80, 65535)),
    "price": _price,
    "span": lambda s: f"{s.integer(2, 90)} {s.pick(_SPANS)}",
    "time": lambda s: s.clock(),
    "word": lambda s: s.made_up(),
    "year": lambda s: str(s.integer(1200, 2090)),
}


def _read() -> Iterator[Relation]:
    """Reads the relations: lines that end in a question mark ask, the others say."""
    for head, lines in blocks("relations"):
        kind, value = head.split(": ")
        says = tuple(line for line in lines if not line.endswith("?"))
        asks = tuple(line for line in lines if line.endswith("?"))
        yield Relation(kind, says, asks, _VALUES[value])


_VERBS: Final = listed(
    "eats makes sells guards carries builds repairs hides collects loves hates follows"
)
_BASES: Final = listed("eat make sell guard carry build repair hide collect love hate follow")
DEEDS: Final = tuple(
    Relation(
        "thing",
        (f"{{s}} {third} {{v}}.",),
        (f"what does {{s}} {base}?", f"{{s}} {third} what?"),
        lambda s: f"{s.pick(('the', 'a', 'the'))} {s.thing()}",
    )
    for third, base in zip(_VERBS, _BASES, strict=True)
)
RELATIONS: Final = (*_read(), *DEEDS)


def free(source: Source) -> Relation:
    """A relation between words that no list has, so that only the wording tells what answers."""
    attribute = source.pick((source.made_up(), source.pick(words.NOUNS)))
    return Relation(
        "town",
        (f"The {attribute} of {{s}} is {{v}}.", f"{{s}} has the {attribute} {{v}}."),
        (
            f"what is the {attribute} of {{s}}?",
            f"which {attribute} does {{s}} have?",
            f"tell me the {attribute} of {{s}}.",
        ),
        _VALUES[source.pick(("place", "noun", "count", "code", "adjective"))],
    )


def _subject(source: Source, kind: str) -> str:
    if kind == "person":
        return source.full_name()
    if kind == "town":
        return source.place()
    owner = source.rng.random()
    if owner < 0.15:
        return f"the {source.thing()} of {source.place()}"
    if owner < 0.25:
        return f"the {source.thing()} in {source.place()}"
    if owner < 0.33:
        return f"{source.name()}'s {source.thing()}"
    if owner < 0.42:
        return f"the {source.place()} {source.pick(words.NOUNS)}"
    if owner < 0.5:
        return source.made_up().capitalize()
    return f"the {source.thing()}"


_TAILS: Final = (
    ", because of the {t}",
    ", which surprises many visitors",
    " and this never changes",
    ", says {n}",
    " according to {n}",
    ", unlike the {t}",
    ", and so it was in {y}",
    " (see page {c})",
    ", thanks to {n} of {p}",
    " as a rule",
    ", except on {d}",
)


def _dressed(source: Source, said: str) -> str:
    """The sentence, now and then with words after it that say nothing asked for."""
    style = source.rng.random()
    if style < 0.92:
        return capitalised(said)
    filling = {
        "y": source.integer(1800, 2030),
        "n": source.name(),
        "p": source.place(),
        "t": source.thing(),
        "c": source.integer(1, 400),
        "d": source.pick(words.DAYS),
    }
    said = said.rstrip(".") + source.pick(_TAILS).format(**filling) + "."
    return capitalised(said)


def statement(
    source: Source, *, relation: Relation | None = None, subject: str = "", kind: str = ""
) -> Statement:
    """Makes up a statement, about a given subject or of a given relation where asked."""
    if relation is None:
        if source.chance(0.12) and kind in ("", "town"):
            relation = free(source)
        else:
            known = [r for r in RELATIONS if r.kind == kind] if kind else RELATIONS
            relation = source.pick(known)
    subject = subject or _subject(source, relation.kind)
    said = articled(source.pick(relation.says).format(s=subject, v=relation.value(source)))
    return Statement(relation, relation.kind, subject, _dressed(source, said))
