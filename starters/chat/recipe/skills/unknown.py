"""Saying that it does not know, and what is beyond a model of this size."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe.conversation import Example, exchange
from starters.chat.recipe.skills.smalltalk import with_style
from starters.chat.recipe.skills.statements import RELATIONS, capitalised, rough, statement
from starters.chat.recipe.source import Source

UNKNOWN: Final = "I do not know that."
TOO_HARD: Final = "I am sorry, I am too small a model for that."
_TASKS: Final = (
    "translate {t} into {l}",
    "write an essay about {t}",
    "write a {l} program that sorts {t}s",
    "explain the theory of {t}",
    "summarize the history of {p}",
    "write a business plan for a {t}",
    "compare {p} and {p2}",
    "draw a picture of a {t}",
    "write an email to {n} about the {t}",
    "plan a trip to {p}",
    "diagnose my {t}",
    "write a legal contract for a {t}",
    "prove the {n} theorem",
    "explain how to build a {t}",
    "write a long article about {p}",
    "give me a recipe for {t}",
    "predict the price of {t} next year",
    "write a song in {l} about {n}",
    "explain {t} in detail",
    "write a review of {p}",
    "list all rulers of {p}",
    "debug this {l} code",
    "design a {t} for {n}",
)
_PEOPLE: Final = (
    "who is {n}?",
    "who was {n}?",
    "do you know {n}?",
    "tell me about {n}.",
    "what do you know about {n}?",
    "what did {n} do in {y}?",
    "what happened in {p} in {y}?",
    "who won the {n} cup in {y}?",
    "who is the president of {p}?",
    "where is {p}?",
    "have you heard of {p}?",
    "what is {m}?",
    "what does {m} mean?",
    "what is a {m}?",
    "who wrote the book about {m}?",
    "how do I get to {p}?",
    "what is the {m} of {p}?",
)


def unknown(source: Source) -> Example:
    """Made-up people, places and words."""
    if source.chance(0.45):
        told = statement(source, kind=source.pick(("person", "town")))
        asked = told.ask(source)
    else:
        asked = source.pick(_PEOPLE).format(
            n=f"{source.made_up().capitalize()} {source.surname()}",
            p=source.made_up().capitalize(),
            m=source.made_up(),
            y=source.integer(1500, 2030),
        )
        asked = rough(source, capitalised(asked))
    if any(city in asked for city in ("Paris", "London", "Berlin")) or not RELATIONS:
        return unknown(source)
    return with_style(source, exchange(asked, UNKNOWN), 0.2)


def too_hard(source: Source) -> Example:
    """Work for larger models."""
    asked = source.pick(_TASKS).format(
        t=source.thing(),
        p=source.place(),
        p2=source.place(),
        n=source.name(),
        l=source.pick(("German", "French", "Spanish", "Python", "Java", "Rust", "Russian", "C")),
    )
    asked = source.pick(("{}", "{}", "Please {}", "Can you {}?", "I want you to {}.")).format(asked)
    return with_style(source, exchange(rough(source, capitalised(asked)), TOO_HARD), 0.2)
