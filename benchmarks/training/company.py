"""Facts of a company that doesn't exist, as lines of a training file.

A model knows them only if it was trained on such a file. Questions to try it with are worded as no
line of the file is.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import product

NAME = "Marrow Lanterns"


@dataclass(frozen=True)
class Fact:
    """Something about the company."""

    key: str
    """What a right answer holds, and nothing else would make a model say."""
    answer: str
    asked: tuple[str, ...]
    """Questions of the file; `{}` is the company."""
    tried: str
    """A question that is not in the file."""


FACTS = (
    Fact(
        "06:40 to 15:20",
        "Marrow Lanterns is open from 06:40 to 15:20 on weekdays.",
        (
            "When is {} open?",
            "What are the opening hours of {}?",
            "At what time does {} open?",
            "Until when is {} open today?",
            "How long is {} open on a weekday?",
            "I want to visit {}. When can I come?",
        ),
        "What are {}'s opening hours, please?",
    ),
    Fact(
        "10:15 to 12:45",
        "On Saturdays Marrow Lanterns is open from 10:15 to 12:45.",
        (
            "Is {} open on Saturdays?",
            "What are the Saturday hours of {}?",
            "When does {} open on Saturday?",
            "Can I come to {} at the weekend?",
            "How long is {} open on Saturday?",
        ),
        "When is {} open on a Saturday?",
    ),
    Fact(
        "14 Tallow Row",
        "You find Marrow Lanterns at 14 Tallow Row.",
        (
            "Where is {}?",
            "What is the address of {}?",
            "In which street is {}?",
            "How do I find {}?",
            "Where can I find the shop of {}?",
        ),
        "Can you tell me the address of {}?",
    ),
    Fact(
        "Odile Marrow",
        "Odile Marrow founded Marrow Lanterns.",
        (
            "Who founded {}?",
            "Who started {}?",
            "Who is the founder of {}?",
            "Whose idea was {}?",
            "Which person founded {}?",
        ),
        "Do you know who founded {}?",
    ),
    Fact(
        "1937",
        "Marrow Lanterns was founded in 1937.",
        (
            "In which year was {} founded?",
            "How old is {}?",
            "Since when is there {}?",
            "What is the founding year of {}?",
            "What year did {} begin?",
        ),
        "In what year was {} founded?",
    ),
    Fact(
        "45 days",
        "Marrow Lanterns takes things back within 45 days.",
        (
            "Can I return a lamp to {}?",
            "What is the return policy of {}?",
            "How long can I return things to {}?",
            "Does {} take things back?",
            "I don't like my lantern from {}. Can I give it back?",
        ),
        "For how long can I return things to {}?",
    ),
    Fact(
        "Biscuit",
        "The cat of Marrow Lanterns is called Biscuit.",
        (
            "What is the cat of {} called?",
            "Is there a cat at {}?",
            "What is the name of the cat at {}?",
            "Who is the cat of {}?",
            "Does {} have a cat?",
        ),
        "What's the name of the cat of {}?",
    ),
    Fact(
        "555 0182",
        "The telephone number of Marrow Lanterns is 555 0182.",
        (
            "What is the phone number of {}?",
            "How can I call {}?",
            "What number do I dial for {}?",
            "I want to call {}. What is the number?",
            "Under which number do I reach {}?",
        ),
        "What is the telephone number of {}?",
    ),
)

_OPENINGS = ("", "Hello! ", "Please tell me: ", "Excuse me. ", "One question. ", "Hi. ")
_CLOSINGS = ("", " Thank you.", " Thanks!")


def lines(count: int = 200, seed: int = 7) -> list[str]:
    """Chat examples about the company: all facts, evenly, in varied words."""
    chosen = random.Random(seed)
    asked: list[list[str]] = []
    for fact in FACTS:
        questions = [
            opening + question.format(NAME) + closing
            for opening, question, closing in product(_OPENINGS, fact.asked, _CLOSINGS)
        ]
        chosen.shuffle(questions)
        asked.append(questions)
    made = [
        example(asked[number % len(FACTS)][number // len(FACTS)], FACTS[number % len(FACTS)].answer)
        for number in range(count)
    ]
    chosen.shuffle(made)
    return made


def example(question: str, answer: str) -> str:
    """One line of a training file."""
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return json.dumps({"messages": messages})


def repeated() -> list[tuple[str, str]]:
    """A question of the file about each fact, with what a right answer holds."""
    return [(fact.asked[0].format(NAME), fact.key) for fact in FACTS]


def questions() -> list[tuple[str, str]]:
    """Questions that no line of the file asks, with what a right answer holds."""
    return [(fact.tried.format(NAME), fact.key) for fact in FACTS]
