"""One way to write a value as JSON, so that equal values are equal texts on every database."""

import json
from collections.abc import Mapping, Sequence

from services.errors import InvalidArgument
from services.retrieval.records import Json

_INT64 = range(-(2**63), 2**63)


def canonical(value: object) -> str:
    """Writes a value that `plain` made."""
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )


def plain(value: Json, field: str) -> Json:
    """Returns a value whose numbers have one form each: whole ones are integers.

    Raises:
        InvalidArgument: it holds something that JSON or a database can't.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return storable(value, field)
    if isinstance(value, int):
        if value not in _INT64:
            raise _refused(field, "whole numbers must fit into 64 bits; send others as text")
        return value
    if isinstance(value, float):
        return _number(value, field)
    if isinstance(value, Mapping):
        return {storable(name, field): plain(item, field) for name, item in value.items()}
    return [plain(item, field) for item in value]


def _number(value: float, field: str) -> int | float:
    if value - value != 0:
        raise _refused(field, "numbers must be finite")
    # Texts of floats are rounded; those of integers aren't, so both kinds can be compared.
    whole = value.is_integer() and int(value) in _INT64
    return int(value) if whole else value


def storable(text: str, field: str) -> str:
    """Returns the text. Raises `InvalidArgument` where a database can't keep it."""
    if "\0" in text:
        raise _refused(field, "must not hold the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _refused(field, "must be valid Unicode") from None
    return text


def _refused(field: str, why: str) -> InvalidArgument:
    return InvalidArgument(f"'{field}': {why}.", field=field)


def elements(value: Json) -> Sequence[Json] | None:
    """Returns the values of a list; None for anything else."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return value
    return None
