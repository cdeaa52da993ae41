"""Tools that prompts declare: made up, with arguments that the user's words carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from starters.chat.recipe import words
from starters.chat.recipe.conversation import Tool
from starters.chat.recipe.source import Source
from starters.chat.recipe.texts import blocks

Arguments = dict[str, Any]
Maker = Callable[[Source], Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """An argument: the names that it may have, its JSON type, a description and its values."""

    keys: str
    type: str
    description: str | tuple[str, ...]
    make: Maker
    choices: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """The names that it may have."""
        return self.keys.split()


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


_P = Parameter
_PRIORITIES: Final = ("low", "medium", "high")
_PARAMETERS: Final[dict[str, Parameter]] = {
    "city": _P(
        "city city location location place town where",
        "string",
        (
            "The city",
            "The name of the city",
            "Where to look",
            "The city and state, e.g. San Francisco, CA",
            "City name, such as Tokyo",
        ),
        lambda s: s.place(),
    ),
    "code": _P("order_id id code number ticket", "string", "The identifier", lambda s: s.code()),
    "count": _P(
        "count quantity amount number n", "integer", "How many", lambda s: s.integer(2, 500)
    ),
    "day": _P("day date weekday", "string", "The day", lambda s: s.pick(words.DAYS)),
    "degrees": _P(
        "degrees temperature value", "integer", "The temperature", lambda s: s.integer(5, 35)
    ),
    "destination": _P(
        "to destination arrival target", "string", "Where the flight ends", lambda s: s.place()
    ),
    "device": _P("device name target", "string", "The device", lambda s: s.item()),
    "email": _P("email address to", "string", "The email address", lambda s: s.email()),
    "expression": _P(
        "expression formula input query",
        "string",
        "The expression",
        lambda s: f"{s.number()} {s.pick('+-*/')} {s.number()}",
    ),
    "full_name": _P("name username user", "string", "The name", lambda s: s.full_name()),
    "guests": _P(
        "people guests seats party_size", "integer", "How many people", lambda s: s.integer(2, 12)
    ),
    "item": _P("item product article thing", "string", "The item", lambda s: s.item()),
    "language": _P(
        "language target to target_language",
        "string",
        "The language",
        lambda s: s.pick(
            ("French", "German", "Spanish", "Italian", "Dutch", s.made_up().capitalize())
        ),
    ),
    "left": _P("a x first left", "number", "The first number", lambda s: s.number()),
    "money": _P("amount value sum", "number", "The amount", lambda s: s.number()),
    "new_currency": _P(
        "to target to_currency",
        "string",
        "The new currency",
        lambda s: s.pick(("CHF", "SEK", "CAD", "AUD")),
    ),
    "old_currency": _P(
        "from source from_currency",
        "string",
        "The currency",
        lambda s: s.pick(("USD", "EUR", "GBP", "JPY")),
    ),
    "origin": _P(
        "from origin departure source", "string", "Where the flight starts", lambda s: s.place()
    ),
    "person": _P("name person recipient to contact", "string", "The person", lambda s: s.name()),
    "phrase": _P("text input phrase", "string", "The text", lambda s: s.item()),
    "priority": _P(
        "priority level severity",
        "string",
        "The priority",
        lambda s: s.pick(_PRIORITIES),
        _PRIORITIES,
    ),
    "query": _P(
        "query q search text topic",
        "string",
        "What to look for",
        lambda s: s.pick((s.item(), s.item(), f"{s.item()} in {s.place()}")),
    ),
    "right": _P("b y second right", "number", "The second number", lambda s: s.number()),
    "room": _P(
        "room zone area",
        "string",
        "The room",
        lambda s: s.pick(("kitchen", "bedroom", "office", "hall", "bathroom")),
    ),
    "song": _P("title song track", "string", "The song", lambda s: s.made_up().capitalize()),
    "subject": _P("subject title body text", "string", "The subject", lambda s: s.item()),
    "symbol": _P(
        "symbol ticker stock", "string", "The stock symbol", lambda s: s.made_up()[:4].upper()
    ),
    "task": _P(
        "text title task message",
        "string",
        "What to remind of",
        lambda s: f"{s.pick(words.VERBS)} the {s.item()}",
    ),
    "time": _P("time at start", "string", "The time", lambda s: s.clock()),
    "title": _P("title subject summary", "string", "The title", lambda s: f"broken {s.item()}"),
}


def _read() -> Iterator[Family]:
    """Reads the families: names; then descriptions, parameters and the ways to ask."""
    for names, (descriptions, parameters, *asks) in blocks("tools"):
        yield Family(
            tuple(names.split()),
            tuple(descriptions.split(" | ")),
            tuple(_PARAMETERS[name] for name in parameters.split()),
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
_KINDS: Final = (
    _P("", "string", "", lambda s: s.place()),
    _P("", "string", "", lambda s: s.full_name()),
    _P("", "string", "", lambda s: s.made_up().capitalize()),
    _P("", "string", "", lambda s: s.code()),
    _P("", "integer", "", lambda s: s.number()),
    _P("", "integer", "", lambda s: s.integer(1, 99)),
    _P("", "string", "", lambda s: s.item()),
    _P("", "string", "", lambda s: s.date()),
    _P("", "boolean", "", lambda s: s.chance(0.5)),
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
            named.append((key, source.pick(_KINDS)))
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
