"""Remembering what the user said, and questions that lean on the turn before."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Example, Message, assistant, user
from starters.chat.recipe.skills.facts import CAPITALS
from starters.chat.recipe.skills.smalltalk import TOPICS, with_style
from starters.chat.recipe.skills.statements import capitalised, rough
from starters.chat.recipe.source import Source

# What the user tells, what is said back, what is asked later, and the answer.
_TOLD: Final = (
    (
        ("My name is {v}.", "I am {v}.", "I'm {v}", "Hi, my name is {v}", "Hello, I am {v}."),
        "Nice to meet you, {v}!",
        (
            "What is my name?",
            "What's my name?",
            "Who am I?",
            "Do you remember my name?",
            "Can you tell me my name?",
            "What did I say my name was?",
        ),
        "Your name is {v}.",
        lambda s: s.name(),
    ),
    (
        ("I live in {v}.", "My home is {v}.", "I come from {v}."),
        "{v} sounds nice!",
        ("Where do I live?", "Where is my home?", "Do you remember where I live?"),
        "You live in {v}.",
        lambda s: s.place(),
    ),
    (
        ("My favourite colour is {v}.", "My favorite color is {v}.", "I love the colour {v}."),
        "{V} is a lovely colour.",
        ("What is my favourite colour?", "What is my favorite color?", "Which colour do I like?"),
        "Your favourite colour is {v}.",
        lambda s: s.pick(words.COLOURS),
    ),
    (
        ("I have a dog called {v}.", "My dog is called {v}.", "My dog's name is {v}."),
        "{v} is a good name for a dog.",
        ("What is my dog called?", "What is the name of my dog?", "What's my dog's name?"),
        "Your dog is called {v}.",
        lambda s: s.name(),
    ),
    (
        ("I work as a {v}.", "I am a {v}."),
        "That sounds like interesting work.",
        ("What is my job?", "What do I work as?", "What do I do for a living?"),
        "You work as a {v}.",
        lambda s: s.pick(words.JOBS),
    ),
    (
        ("I am {v} years old.", "I'm {v} years old"),
        "Good to know.",
        ("How old am I?", "What is my age?", "Do you remember how old I am?"),
        "You are {v} years old.",
        lambda s: str(s.integer(5, 99)),
    ),
    (
        ("Remember the word {v}.", "The secret word is {v}.", "Please remember this word: {v}"),
        "I will remember it.",
        ("What was the word?", "What is the secret word?", "Which word did I tell you?"),
        "The word is {v}.",
        lambda s: s.made_up(),
    ),
    (
        ("Remember the number {v}.", "My lucky number is {v}."),
        "I will remember it.",
        ("What was the number?", "What is my lucky number?", "Which number did I tell you?"),
        "The number is {v}.",
        lambda s: str(s.number()),
    ),
    (
        ("I like to eat {v}.", "My favourite food is {v}."),
        "That sounds tasty.",
        ("What do I like to eat?", "What is my favourite food?"),
        "You like to eat {v}.",
        lambda s: s.pick(words.FOODS),
    ),
)


def _fill(template: str, value: str) -> str:
    return template.format(v=value, V=capitalised(value))


def memory(source: Source) -> Example:
    """The user tells one to three things and asks for one of them later."""
    messages: list[Message] = []
    asked: list[tuple[str, str]] = []
    for says, reply, asks, answer, make in source.some(_TOLD, source.pick((1, 1, 2, 3))):
        value = make(source)
        told = rough(source, source.pick(says).format(v=value))
        if value not in told:
            told = source.pick(says).format(v=value)
        messages += [user(told), assistant(_fill(reply, value))]
        asked.append((source.pick(asks), _fill(answer, value)))
        if source.chance(0.2):
            back, said = source.pick(TOPICS)
            messages += [user(capitalised(source.pick(said))), assistant(back)]
    question, answer = source.pick(asked)
    example = Example(
        [*messages, user(rough(source, question)), assistant(answer)],
        key=" ".join(m["content"] for m in messages) + question,
    )
    return with_style(source, example, 0.2)


def capital_follow_up(source: Source) -> Example:
    """A capital, and then another one asked for in short."""
    (first, one), (second, two) = source.some(tuple(CAPITALS.items()), 2)
    again = source.pick(
        ("And of {}?", "And {}?", "What about {}?", "and {}", "And the one of {}?", "how about {}?")
    ).format(second)
    opening = source.pick(
        ("What is the capital of {}?", "what is the capital of {}", "Tell me the capital of {}.")
    ).format(first)
    return with_style(
        source,
        Example(
            [
                user(opening),
                assistant(f"The capital of {first} is {one}."),
                user(again),
                assistant(f"The capital of {second} is {two}."),
            ],
            key=f"{first} {second}",
        ),
        0.15,
    )
