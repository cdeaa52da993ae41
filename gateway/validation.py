"""Decodes JSON bodies into schemas, and says precisely what is wrong with one that doesn't fit.

The happy path is one msgspec call. When it fails, the body is read once more and walked beside the
schema, so that the answer names the first field at fault, its value and the rule that it breaks.
"""

import json
import math
import re
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from gateway.errors import Problem, ProblemError, invalid, unsupported

T = TypeVar("T")

_EXPLAINED_BYTES = 4 * 1024 * 1024
"""Larger bodies are not read a second time: their error is msgspec's own, in our words."""

_LONGEST_KEY = 64
_LACKING = re.compile(r"^Object missing required field `(.*)`$")
_LOCATED = re.compile(r"^(?P<what>.*?)(?: - at `(?P<where>.*)`)?$", re.DOTALL)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Decodes a body. An empty one is `{}`.

    Raises:
        ProblemError: it is not JSON, or a field is missing, of the wrong type or out of range.
    """
    body = body or b"{}"
    try:
        str(body, "utf-8")  # msgspec checks only the texts that it keeps
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explained(decoder, body, error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise malformed() from None


def malformed() -> ProblemError:
    """Makes the error for a body that is not JSON."""
    message = (
        "We could not parse the JSON body of your request. "
        "The body must be one JSON object in UTF-8, nested less deeply than a few hundred levels."
    )
    return ProblemError(Problem("MALFORMED_BODY", message))


def _explained(
    decoder: msgspec.json.Decoder[Any], body: bytes, error: msgspec.ValidationError
) -> ProblemError:
    if len(body) <= _EXPLAINED_BYTES:
        try:
            value = json.loads(body, parse_int=_integer, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return malformed()
        if not isinstance(value, dict):
            return ProblemError(
                Problem("MALFORMED_BODY", f"The body must be a JSON object, not {_named(value)}.")
            )
        try:
            found = _check(inspect.type_info(decoder.type), cast("dict[str, Any]", value), "")
        except RecursionError:  # it is wrong deeper inside than this can look
            found = None
        if found is not None:
            return found
    return _translated(error)


def _translated(error: msgspec.ValidationError) -> ProblemError:
    match = _LOCATED.match(str(error))
    what, where = (match["what"], match["where"]) if match else (str(error), None)
    param = where.removeprefix("$").removeprefix(".") if where else None
    lacking = _LACKING.match(what)
    if lacking is not None:
        return missing(f"{param}.{lacking[1]}" if param else lacking[1])
    code = "invalid_type" if "got `" in what else "invalid_value"
    subject = f"Invalid value for '{param}'" if param else "Invalid body"
    return invalid(f"{subject}: {what.replace('`', '')}.", param or None, code)


def _integer(text: str) -> int | float:
    return int(text) if len(text) < 400 else float(text)


def _refuse(text: str) -> None:
    raise ValueError(text)


def _check(kind: inspect.Type, value: Any, path: str) -> ProblemError | None:
    """Finds the first thing that is wrong with a value."""
    match = _matching(kind, value)
    if match is None:
        expected, got = _expected(kind), _named(value)
        message = f"Invalid type for '{path}': expected {expected}, but got {got} instead."
        return invalid(message, path, "invalid_type")
    if isinstance(match, inspect.StructType):
        return _check_struct(match, cast("dict[str, Any]", value), path)
    if isinstance(match, inspect.DictType):
        return _check_dict(match, cast("dict[str, Any]", value), path)
    if isinstance(match, inspect.ListType):
        return _check_list(match, cast("list[Any]", value), path)
    if isinstance(match, inspect.LiteralType):
        return _check_literal(match, value, path)
    if isinstance(match, inspect.IntType):
        return _check_number("integer", match, value, path)
    if isinstance(match, inspect.FloatType):
        return _check_number("decimal", match, value, path)
    if isinstance(match, inspect.StrType):
        return _check_text(match, cast("str", value), path)
    return None


def _check_struct(
    kind: inspect.StructType, value: dict[str, Any], path: str
) -> ProblemError | None:
    for item in kind.fields:
        where = f"{path}.{item.encode_name}" if path else item.encode_name
        if item.encode_name not in value:
            if item.required:
                return missing(where)
            continue
        found = _check(item.type, value[item.encode_name], where)
        if found is not None:
            return found
    names = [item.encode_name for item in kind.fields]
    if kind.forbid_unknown_fields:
        for key in value:
            if key not in names:
                known = ", ".join(f"'{name}'" for name in names)
                where = f"{path}.{_key(key)}" if path else _key(key)
                return unsupported(where, f"the fields that are taken there are {known}")
    return None


def _key(key: str) -> str:
    return key[:_LONGEST_KEY].encode("unicode_escape").decode("ascii")


def missing(path: str) -> ProblemError:
    """Makes the error for a field that must be there and isn't."""
    message = f"Missing required parameter: '{path}'."
    return invalid(message, path, "missing_required_parameter", "MISSING_FIELD")


def _check_dict(kind: inspect.DictType, value: dict[str, Any], path: str) -> ProblemError | None:
    if kind.max_length is not None and len(value) > kind.max_length:
        return invalid(
            f"Invalid '{path}': too many properties. Expected an object with at most "
            f"{kind.max_length} properties, but got an object with {len(value)} instead.",
            path,
            "object_above_max_properties",
        )
    for key, item in value.items():
        found = _check(kind.key_type, key, path)
        found = found or _check(kind.value_type, item, f"{path}.{_key(key)}")
        if found is not None:
            return found
    return None


def _check_list(kind: inspect.ListType, value: list[Any], path: str) -> ProblemError | None:
    if kind.min_length and not value:
        return invalid(
            f"Invalid '{path}': empty array. Expected an array with minimum length "
            f"{kind.min_length}, but got an empty array instead.",
            path,
            "empty_array",
        )
    if kind.max_length is not None and len(value) > kind.max_length:
        return invalid(
            f"Invalid '{path}': array too long. Expected an array with maximum length "
            f"{kind.max_length}, but got an array with length {len(value)} instead.",
            path,
            "array_above_max_length",
        )
    for number, item in enumerate(value):
        found = _check(kind.item_type, item, f"{path}[{number}]")
        if found is not None:
            return found
    return None


def _check_literal(kind: inspect.LiteralType, value: Any, path: str) -> ProblemError | None:
    if value in kind.values:
        return None
    names = ", ".join(f"'{known}'" for known in kind.values)
    shown = str(value)[:_LONGEST_KEY]
    return invalid(f"Invalid value: '{shown}'. Supported values are: {names}.", path)


def _check_number(
    word: str, kind: inspect.IntType | inspect.FloatType, value: float, path: str
) -> ProblemError | None:
    least, most = kind.ge, kind.le
    if kind.gt is not None and value <= kind.gt:
        rule, side, bound = "below minimum", "min", f"> {kind.gt:g}"
    elif least is not None and value < least:
        rule, side, bound = "below minimum", "min", f">= {_shown(least)}"
    elif most is not None and value > most:
        rule, side, bound = "above maximum", "max", f"<= {_shown(most)}"
    else:
        return None
    return invalid(
        f"Invalid '{path}': {word} {rule} value. Expected a value {bound}, "
        f"but got {_shown(value)} instead.",
        path,
        f"{word}_{rule.split()[0]}_{side}_value",
    )


def _check_text(kind: inspect.StrType, value: str, path: str) -> ProblemError | None:
    if kind.max_length is not None and len(value) > kind.max_length:
        return invalid(
            f"Invalid '{path}': string too long. Expected a string with maximum length "
            f"{kind.max_length}, but got a string with length {len(value)} instead.",
            path,
            "string_above_max_length",
        )
    if kind.min_length is not None and len(value) < kind.min_length:
        return invalid(
            f"Invalid '{path}': empty string. Expected a string with minimum length "
            f"{kind.min_length}, but got a string with length {len(value)} instead.",
            path,
            "string_below_min_length",
        )
    return None


def _matching(kind: inspect.Type, value: Any) -> inspect.Type | None:
    """The part of a type that a value of this JSON kind belongs to."""
    if isinstance(kind, inspect.UnionType):
        found = (_matching(option, value) for option in kind.types)
        return next((match for match in found if match is not None), None)
    if isinstance(kind, inspect.AnyType | inspect.RawType):
        return kind
    if value is None:
        fits = isinstance(kind, inspect.NoneType)
    elif isinstance(value, bool):
        fits = isinstance(kind, inspect.BoolType)
    elif isinstance(value, int):
        fits = isinstance(kind, inspect.IntType | inspect.FloatType)
    elif isinstance(value, float):
        # A whole number of hundreds of digits is read as a float, and is still out of range.
        fits = isinstance(kind, inspect.FloatType) or (
            isinstance(kind, inspect.IntType) and math.isinf(value)
        )
    elif isinstance(value, str):
        fits = isinstance(kind, inspect.StrType | inspect.LiteralType)
    elif isinstance(value, list):
        fits = isinstance(kind, inspect.ListType)
    else:
        fits = isinstance(kind, inspect.StructType | inspect.DictType)
    return kind if fits else None


_NAMES: tuple[tuple[type[inspect.Type], str], ...] = (
    (inspect.StrType, "a string"),
    (inspect.LiteralType, "a string"),
    (inspect.IntType, "an integer"),
    (inspect.FloatType, "a decimal"),
    (inspect.BoolType, "a boolean"),
    (inspect.ListType, "an array"),
    (inspect.StructType, "an object"),
    (inspect.DictType, "an object"),
)


def _expected(kind: inspect.Type) -> str:
    options = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    names = [name for option in options for type_, name in _NAMES if isinstance(option, type_)]
    names = list(dict.fromkeys(names))
    return names[0] if len(names) == 1 else f"one of {' or '.join(names)}"


def _named(value: object) -> str:
    if value is None:
        return "null"
    names: dict[object, str] = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
    }
    return names.get(type(value), "an object")


def _shown(value: float) -> str:
    text = str(value) if isinstance(value, int) and abs(value) < 10**30 else f"{float(value):g}"
    return text.removesuffix(".0")
