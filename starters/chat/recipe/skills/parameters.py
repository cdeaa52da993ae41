"""Arguments of tools: what they may be called, what they are, and values for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from starters.chat.recipe import words
from starters.chat.recipe.source import Source

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


_P = Parameter
_PRIORITIES: Final = ("low", "medium", "high")
PARAMETERS: Final[dict[str, Parameter]] = {
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


# Arguments of tools that nobody has seen; their names are made up too.
INVENTED: Final = (
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
