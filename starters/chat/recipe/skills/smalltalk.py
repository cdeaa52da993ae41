"""Greetings, thanks, goodbyes, and who the model is."""

from __future__ import annotations

from typing import Final

from starters.chat.recipe.conversation import Example, assistant, exchange, system, user
from starters.chat.recipe.skills.statements import rough
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks

STYLES: Final = (
    "You are a helpful assistant.",
    "You are a helpful, friendly assistant.",
    "Be brief.",
    "You are a helpful AI assistant. Answer the questions of the user.",
    "Answer in one sentence.",
    "You are Penstock's starter model.",
    "You are a polite assistant.",
    "Keep your answers short.",
    "You are a test assistant.",
    "You speak plain English.",
    "Be concise.",
    "You are a teacher.",
    "You are a friendly chatbot.",
    "Answer briefly and precisely.",
    "You are a pirate.",
    "Always answer politely.",
    "You are an expert.",
    "You are a helpful assistant named Penny.",
    "You talk like a pirate.",
    "Help the user.",
    "You are a concise assistant. Use short answers.",
)

NEEDS_TOOL: Final = "I cannot know that without a tool."
# Each topic: what the model answers, and what people say.
TOPICS: Final = blocks("smalltalk")
_SELF: Final = blocks("identity")
_HELLO, _GREETINGS = TOPICS[0]
_DRESSES: Final = (
    "{}",
    "{}",
    "{}",
    "{}",
    "{} please",
    "um, {}",
    "so, {}",
    "hey, {}",
    "hello, {}",
    "{} :)",
    "ok, {}",
    "well, {}",
    "hi! {}",
    "please, {}",
    "and {}",
    "{} ?",
    "oh, {}",
)


def _dressed(source: Source, text: str) -> str:
    said = source.pick(_DRESSES).format(text)
    roll = source.rng.random()
    if roll < 0.5:
        said = said[:1].upper() + said[1:]
    elif roll < 0.55:
        said = said.upper()
    if said[-1].isalpha():
        return said + source.pick(("", "!", ".", "", "!!", "..."))
    return said if source.chance(0.75) else said.rstrip("?")


def with_style(source: Source, example: Example, chance: float = 0.3) -> Example:
    """Puts a system prompt of some style first, which must change nothing."""
    if not source.chance(chance):
        return example
    return Example(
        [system(source.pick(STYLES)), *example.messages],
        example.tools,
        example.accepted,
        example.judge,
        example.instance,
    )


def chat(source: Source) -> Example:
    """Greetings, thanks, goodbyes and the like."""
    answer, said = source.pick(TOPICS)
    if source.chance(0.25):
        answer, said = _HELLO, _GREETINGS
    return with_style(source, exchange(_dressed(source, source.pick(said)), answer))


def identity(source: Source) -> Example:
    """Who the model is, what it can and cannot do."""
    answer, said = source.pick(_SELF)
    return with_style(source, exchange(_dressed(source, source.pick(said)), answer))


def introduction(source: Source) -> Example:
    """The user says a name, and is greeted by it."""
    name = source.name()
    said = source.pick(
        (
            "hi, i am {}",
            "hello, my name is {}",
            "my name is {}",
            "i'm {}",
            "hey, {} here",
            "hello! i am {}.",
            "call me {}",
            "hi! my name is {}.",
            "you can call me {}",
            "good morning, i am {}",
            "this is {}",
        )
    ).replace(" i ", " I ")
    said = said[:1].upper() + said[1:] if source.chance(0.7) else said
    return with_style(source, exchange(said.format(name), f"Nice to meet you, {name}!"))


def conversation(source: Source) -> Example:
    """Several turns of small talk."""
    messages = []
    for _ in range(source.integer(1, 3)):
        answer, said = source.pick(TOPICS + _SELF)
        messages += [user(_dressed(source, source.pick(said))), assistant(answer)]
    answer, said = source.pick(TOPICS + _SELF)
    asked = rough(source, _dressed(source, source.pick(said)))
    return with_style(
        source,
        Example([*messages, user(asked), assistant(answer)], key=messages[-2]["content"] + asked),
    )
