"""Tools that prompts declare: made up, with arguments that the user's words carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Tool
from starters.chat.recipe.skills.parameters import INVENTED, PARAMETERS, Parameter
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks

Arguments = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of tool: what it may be called, and how people ask for it ({0}, {1} are values)."""

    names: tuple[str, ...]
    descriptions: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    asks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool as the prompt declares it, a request for it, and the arguments that it takes."""

    tool: Tool
    request: str
    arguments: Arguments

    @property
    def name(self) -> str:
        """The name of the tool."""
        return self.tool["function"]["name"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as the prompt declares it, and what makes requests for it."""

    tool: Tool
    ask: Callable[[Source], Call]


def _read() -> Iterator[Family]:
    """Reads the families: names; then descriptions, parameters and the ways to ask."""
    for names, (descriptions, parameters, *asks) in blocks("tools"):
        yield Family(
            tuple(names.split()),
            tuple(descriptions.split(" | ")),
            tuple(PARAMETERS[name] for name in parameters.split()),
            tuple(asks),
        )


FAMILIES: Final = tuple(_read())
# Tools that the same request could mean.
SUMS: Final = frozenset(
    name
    for family in FAMILIES
    if "What is {0}?" in family.asks
    or "What is {0} + {1}?" in family.asks
    or "What is {0} * {1}?" in family.asks
    for name in family.names
)
# Optional arguments that no request mentions, and no call may fill.
_EXTRAS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("unit", {"type": "string", "enum": ["celsius", "fahrenheit"]}),
    ("limit", {"type": "integer"}),
    ("units", {"type": "string", "enum": ["metric", "imperial"]}),
    ("format", {"type": "string"}),
    ("language", {"type": "string", "description": "The language of the answer"}),
    ("verbose", {"type": "boolean"}),
)


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _declare(
    source: Source, name: str, description: str, parameters: list[tuple[str, Parameter]]
) -> Tool:
    described = source.chance(0.6)
    properties: dict[str, Any] = {}
    for key, parameter in parameters:
        properties[key] = {"type": parameter.type}
        if described and parameter.description:
            told = parameter.description
            properties[key]["description"] = told if isinstance(told, str) else source.pick(told)
        if parameter.choices:
            properties[key]["enum"] = list(parameter.choices)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    required = [key for key, _ in parameters]
    if source.chance(0.15):
        extra, kind = source.pick(_EXTRAS)
        properties.setdefault(extra, kind)
    if source.chance(0.75):
        schema["required"] = required
    if source.chance(0.05):
        schema["additionalProperties"] = False
    function: dict[str, Any] = {"name": name, "parameters": schema}
    if description:
        function = {"name": name, "description": description, "parameters": schema}
    return {"type": "function", "function": function}


def _known(source: Source) -> Offer:
    family = source.pick(FAMILIES)
    named: list[tuple[str, Parameter]] = []
    for parameter in family.parameters:
        taken = {key for key, _ in named}
        named.append((source.pick([n for n in parameter.names if n not in taken]), parameter))
    description = source.pick(family.descriptions) if source.chance(0.85) else ""
    tool = _declare(source, source.pick(family.names), description, named)

    def ask(source: Source) -> Call:
        values = {key: parameter.make(source) for key, parameter in named}
        return Call(tool, source.pick(family.asks).format(*map(_said, values.values())), values)

    return Offer(tool, ask)


def _joined(source: Source, verb: str, noun: str) -> str:
    return source.pick(
        (
            f"{verb}_{noun}",
            f"{verb}_{noun}",
            f"{verb}{noun.capitalize()}",
            f"{noun}_{verb}",
            f"{verb}-{noun}",
        )
    )


def _invented(source: Source) -> Offer:
    """A tool nobody has seen: the request names the act and each argument."""
    verb = source.pick(words.VERBS) if source.chance(0.75) else source.made_up()
    noun = source.pick(words.NOUNS) if source.chance(0.6) else source.made_up()
    named: list[tuple[str, Parameter]] = []
    for _ in range(source.pick((1, 1, 2, 2, 3))):
        key = source.pick((source.pick(words.NOUNS), source.pick(words.NOUNS), source.made_up()))
        if key not in (noun, *(k for k, _ in named)):
            named.append((key, source.pick(INVENTED)))
    description = source.pick((f"{verb.capitalize()} the {noun}", f"{verb} a {noun}", ""))
    tool = _declare(source, _joined(source, verb, noun), description, named)

    def ask(source: Source) -> Call:
        values = {key: parameter.make(source) for key, parameter in named}
        asked = _request(source, verb, noun, values)
        return Call(tool, asked[:1].upper() + asked[1:], values)

    return Offer(tool, ask)


def _request(source: Source, verb: str, noun: str, values: Arguments) -> str:
    if not values:
        return f"Please {verb} the {noun}."
    shapes = ("{} {}", "{} {}", "the {} {}", "{}: {}", "{} = {}")
    listed = [source.pick(shapes).format(key, _said(value)) for key, value in values.items()]
    joined = " and ".join((", ".join(listed[:-1]), listed[-1])) if len(listed) > 1 else listed[0]
    request = source.pick(
        (
            "{v} the {n} with {a}.",
            "Please {v} the {n} with {a}.",
            "{v} a {n}: {a}",
            "Can you {v} the {n} with {a}?",
            "{v} {n} for {a}.",
            "I want to {v} the {n} with {a}.",
        )
    )
    return request.format(v=verb, n=noun, a=joined)


def offer(source: Source) -> Offer:
    """A tool: one of a known kind, or one that nobody has seen."""
    return _known(source) if source.chance(0.6) else _invented(source)


def call(source: Source) -> Call:
    """A tool, and a request that needs it."""
    return offer(source).ask(source)
