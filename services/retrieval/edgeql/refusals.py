"""What stands in a query where it can't be read, and what would be right."""

from collections.abc import Iterable

from lark import Token
from lark.exceptions import UnexpectedCharacters, UnexpectedToken

from services.errors import InvalidArgument
from services.retrieval.edgeql.faults import SUPPORTED, fault_at

MAX_SHOWN = 40

_REASONS = {
    "order": "`order by` is not supported: what is found comes by its distance",
    "offset": "`offset` is not supported, `limit` is",
    "with": "`with` is not supported: write values as literals or `<type>$variable`",
    "insert": "`insert` is not supported: queries here only select",
    "update": "`update` is not supported: queries here only select",
    "delete": "`delete` is not supported: queries here only select",
}
_RESERVED_WORDS = """
    administer alter analyze commit configure create declare delete describe detached distinct do
    drop except exists explain extending fetch for function get group if ilike import in insert
    intersect introspect is lock match merge move offset on optional order over partition prepare
    raise refresh revoke rollback savepoint select set start typeof union update variadic when
    window with
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())
_WORDS = {
    "$END": "its end",
    "NAME": "a name",
    "FIELD": "a property such as `.year`",
    "STRING": "a value",
    "COMPARE": "a comparison",
    "LPAR": "`(`",
    "RPAR": "`)`",
    "SEMICOLON": "`;`",
    "COMMA": "`,`",
    "LBRACE": "`{`",
    "RBRACE": "`}`",
    "MORE": "`>`",
    **{
        name: f"`{name.lower()}`"
        for name in ("SELECT", "FILTER", "LIMIT", "OR", "AND", "NOT", "IN", "LIKE")
    },
}
"""Terminals that are worth naming; those that begin a value are left to STRING."""


def refuse_reserved(token: Token) -> Token:
    """Refuses words that EdgeQL reserves, where a name was read."""
    word = token.lower()
    if word in _RESERVED:
        reason = _REASONS.get(word, f"`{token}` is not supported")
        raise fault_at(token, f"{reason}. {SUPPORTED}; back quotes make a name of any word.")
    return token


def unwanted(error: UnexpectedToken, expression: str) -> InvalidArgument:
    """Returns the error for a token that can't stand where it stands."""
    token: Token = error.token
    expected = _listed(error.accepts or error.expected)
    if token.type == "$END":
        at = _end_of(expression)
        return fault_at(at, f"it ends where {expected} should follow. {SUPPORTED}.")
    shown = _shown(token)
    match token.type:
        case "LBRACE":
            reason = f"`{shown}` can't stand here: shapes and sets are not supported in this place"
        case "FIELD":
            reason = f"`{shown}` can't stand here: links to other objects are not followed"
        case "NAME" if expression[token.end_pos :].lstrip().startswith("("):
            reason = f"`{shown}` can't stand here: functions are not supported"
        case _:
            reason = f"`{shown}` stands where {expected} should"
    return fault_at(token, f"{reason}. {SUPPORTED}.")


def unreadable(error: UnexpectedCharacters, expression: str) -> InvalidArgument:
    """Returns the error for a character that begins nothing."""
    at = (error.line, error.column)
    mark = expression[error.pos_in_stream or 0]
    if mark in "'\"`":
        return fault_at(at, f"the text that begins with {mark} here has no end.")
    if mark.isdigit():
        return fault_at(at, "the number that begins here can't be read.")
    if mark in "[]":
        return fault_at(at, f"`{mark}` can't stand here: write lists as sets, {{1, 2}}.")
    return fault_at(at, f"`{_shown(mark)}` can't stand here. {SUPPORTED}.")


def _listed(terminals: Iterable[str]) -> str:
    words = sorted({_WORDS[name] for name in terminals if name in _WORDS})
    if not words:
        return "something else"
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _shown(text: str) -> str:
    text = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def _end_of(expression: str) -> tuple[int, int]:
    return expression.count("\n") + 1, len(expression) - expression.rfind("\n")
