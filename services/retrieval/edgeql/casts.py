"""Casts: what a variable has to be, and what it becomes."""

import math
import re
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import cast

from services.retrieval.records import Json

_DIGITS = re.compile(r"-?[0-9]{1,19}")


class WrongTypeError(ValueError):
    """The value is not what the cast says; the text says what would be."""


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise WrongTypeError("must be a string")
    if "\0" in value:
        raise WrongTypeError("must be a string without U+0000")
    return value


def _integer(value: object, bits: int) -> int:
    if isinstance(value, str) and bits == 64 and _DIGITS.fullmatch(value):
        value = int(value)  # numbers of JSON are exact to 2^53 only
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # how numbers arrive in a Struct
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongTypeError("must be a whole number")
    if not -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
        raise WrongTypeError(f"must be a whole number of {bits} bits")
    return value


def _float(value: object, largest: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongTypeError("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number) or abs(number) > largest:
        raise WrongTypeError("must be a number that fits")
    return number


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongTypeError("must be true or false")
    return value


def _uuid(value: object) -> str:
    try:
        return str(uuid.UUID(_text(value)))
    except ValueError as error:
        raise WrongTypeError("must be a UUID, as a string") from error


def _datetime(value: object) -> str:
    text = _text(value)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError as error:
        raise WrongTypeError("must be an RFC 3339 instant, as a string") from error
    if instant.tzinfo is None:
        raise WrongTypeError("must be an RFC 3339 instant with its offset, such as a final Z")
    return text


SCALARS: dict[str, Callable[[object], Json]] = {
    "str": _text,
    "int16": partial(_integer, bits=16),
    "int32": partial(_integer, bits=32),
    "int64": partial(_integer, bits=64),
    "float32": partial(_float, largest=(2 - 2**-23) * 2.0**127),
    "float64": partial(_float, largest=(2 - 2**-52) * 2.0**1023),
    "bool": _bool,
    "uuid": _uuid,
    "datetime": _datetime,
}
"""What turns a value into each type. They raise WrongTypeError."""


def convert(value: object, type_name: str, *, is_array: bool) -> Json:
    """Returns the value as the type; a tuple for arrays. Raises WrongTypeError."""
    scalar = SCALARS[type_name]
    if not is_array:
        return scalar(value)
    if not isinstance(value, list | tuple):
        raise WrongTypeError("must be a list")
    try:
        return tuple(scalar(item) for item in cast("Iterable[object]", value))
    except WrongTypeError as error:
        raise WrongTypeError(f"must be a list, where each item {error}") from error


def plain(value: object) -> Json:
    """Returns a value that has no cast: a text, number, boolean or list of those."""
    if isinstance(value, list | tuple):
        return tuple(_plain_scalar(item) for item in cast("Iterable[object]", value))
    return _plain_scalar(value)


def _plain_scalar(value: object) -> Json:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int):
        return _integer(value, 64)
    raise WrongTypeError("must be a string, number, boolean or list of those")
