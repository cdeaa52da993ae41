"""What JSON values have to be, and the words for what they aren't."""

from collections.abc import Sequence
from typing import Any, cast

from services.training.examples import places
from services.training.examples.strict_json import Fault, quoted

Object = dict[str, Any]


def an_object(value: Any, *path: str | int) -> Object:
    """Returns an object. Raises `Fault`."""
    if not isinstance(value, dict):
        raise Fault(f"{spelled(path)} must be an object, not {_kind(value)}", places.value(*path))
    return cast("Object", value)


def a_list(value: Any, *path: str | int) -> Sequence[Any]:
    """Returns a list. Raises `Fault`."""
    if not isinstance(value, list):
        raise Fault(f"{spelled(path)} must be a list, not {_kind(value)}", places.value(*path))
    return cast("list[Any]", value)


def a_string(value: Any, *path: str | int) -> str:
    """Returns a string. Raises `Fault`."""
    if not isinstance(value, str):
        raise Fault(f"{spelled(path)} must be a string, not {_kind(value)}", places.value(*path))
    return value


def only_keys(value: Object, path: places.Path, keys: Sequence[str], what: str) -> None:
    """Raises `Fault` where there are other keys."""
    for name in value:
        if name not in keys:
            known = ", ".join(keys)
            message = f"{spelled((*path, name))}: {what} has no such key; it has {known}"
            raise Fault(message, places.key(*path, name))


def missing(name: str, path: places.Path) -> Fault:
    """A key is not there, or null."""
    where = f" in {spelled(path)}" if path else ""
    return Fault(f"{quoted(name)} is missing{where}", places.value(*path, name))


def required(holder: Object, key: str, path: places.Path) -> str:
    """Returns a string that may not be empty. Raises `Fault`."""
    if holder.get(key) is None:
        raise missing(key, path)
    text = a_string(holder[key], *path, key)
    if not text:
        raise Fault(f"{spelled((*path, key))} is empty", places.value(*path, key))
    return text


def optional(holder: Object, key: str, path: places.Path) -> str:
    """Returns a string; an empty one where it is null or not there. Raises `Fault`."""
    value = holder.get(key)
    return "" if value is None else a_string(value, *path, key)


def spelled(path: places.Path) -> str:
    """A path as people write it: `"messages[0].role"`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return quoted(text) if text else "the line"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case dict():
            return "an object"
        case _:
            return "a list"
