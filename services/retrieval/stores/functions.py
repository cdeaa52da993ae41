"""Functions that SQLite lacks."""

import json
from typing import Any

from services.retrieval.stores.patterns import folded, matcher


def add_functions(connection: Any) -> None:
    """Gives a connection to SQLite the functions that filters use."""
    for name, count, function in (
        ("penstock_number", 1, _number),
        ("penstock_like", 2, _like),
        ("penstock_ilike", 2, _ilike),
    ):
        connection.create_function(name, count, function, deterministic=True)


def _number(text: str | None) -> float | None:
    """Reads a number of JSON. SQLite's own reading is off by a bit at times."""
    return None if text is None else float(json.loads(text))


def _like(text: str | None, pattern: str) -> bool | None:
    return None if text is None else matcher(pattern).fullmatch(text) is not None


def _ilike(text: str | None, pattern: str) -> bool | None:
    """Expects a pattern that is folded already."""
    return None if text is None else matcher(pattern).fullmatch(folded(text)) is not None
