"""Values of settings: what a type allows, from TOML and from the text of an environment
variable."""

import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, cast, get_args, get_origin

_BOOLEANS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}

_NAMES: Mapping[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "a string",
    Path: "a path",
    dict: "a table",
}


class SettingsError(Exception):
    """A setting is unknown or has a value that is not allowed. The message is for people."""


def convert(kind: Any, value: object, where: str) -> Any:
    """Returns a value of TOML as `kind` wants it. Raises `SettingsError` where it doesn't fit."""
    choices = _alternatives(kind)
    if choices is not None:
        return convert(choices, value, where)
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            raise _wrong(kind, value, where)
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise _wrong(kind, value, where)
        item = get_args(kind)[0]
        return tuple(convert(item, each, where) for each in cast("list[object]", value))
    if kind is Path and isinstance(value, (str, Path)):
        return Path(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise _wrong(kind, value, where)
        return float(value)
    # A boolean is not a number, though Python says so.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(kind, value, where)
    return value


def parse(kind: Any, text: str, where: str) -> Any:
    """Returns the text of a variable as `kind` wants it. Raises `SettingsError` where it doesn't
    fit."""
    choices = _alternatives(kind)
    if choices is not None:
        return parse(choices, text, where) if text else None
    origin = get_origin(kind)
    if origin is Literal or kind is str or kind is Path:
        return convert(kind, text, where)
    if origin is tuple:
        item = get_args(kind)[0]
        return tuple(parse(item, each.strip(), where) for each in text.split(",") if each.strip())
    try:
        if kind is bool:
            return _BOOLEANS[text.strip().lower()]
        if kind is dict:
            return json.loads(text)
        return convert(kind, kind(text.strip()), where)
    except (ValueError, KeyError):
        raise _wrong(kind, text, where) from None


def _alternatives(kind: Any) -> Any | None:
    """Returns the type beside None in an optional type, or None for any other type."""
    if get_origin(kind) not in (Union, types.UnionType):
        return None
    return next(each for each in get_args(kind) if each is not type(None))


def _wrong(kind: Any, value: object, where: str) -> SettingsError:
    return SettingsError(f"{where}: expected {_name(kind)}, got {value!r}")


def _name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        return " or ".join(f"'{choice}'" for choice in get_args(kind))
    if origin is tuple:
        return f"a list, each item {_name(get_args(kind)[0])}"
    return _NAMES.get(kind, str(kind))
