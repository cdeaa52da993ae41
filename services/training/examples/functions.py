"""Reads functions that may be called, and calls of them, from JSON values."""

from collections.abc import Mapping
from typing import Any, Final

from services.training.examples import places
from services.training.examples.formats import ToolCall, Tools
from services.training.examples.shapes import (
    Object,
    a_list,
    a_string,
    an_object,
    missing,
    only_keys,
    optional,
    required,
    spelled,
)
from services.training.examples.strict_json import DEEPEST, Fault, nested_too_deeply, quoted

_NO_PARAMETERS: Final[Object] = {"type": "object", "properties": {}}


def tools(holder: Object, *path: str | int) -> Tools:
    """Reads the functions that may be called, from `tools` or, as it was once, `functions`.

    Raises:
        Fault: they are none.
    """
    several = holder.get("parallel_tool_calls")
    if several is not None and not isinstance(several, bool):
        where = (*path, "parallel_tool_calls")
        raise Fault(f"{spelled(where)} must be true or false", places.value(*where))
    given, old = holder.get("tools"), holder.get("functions")
    if given is not None and old is not None:
        message = f'{spelled((*path, "functions"))} is the old name of "tools"; give one of them'
        raise Fault(message, places.key(*path, "functions"))
    read: list[Mapping[str, Any]] = []
    if given is not None:
        for index, item in enumerate(a_list(given, *path, "tools")):
            where = (*path, "tools", index)
            tool = an_object(item, *where)
            only_keys(tool, where, ("type", "function"), "a tool")
            _type(tool, where, "function")
            read.append(_function(tool.get("function"), (*where, "function")))
    elif old is not None:
        for index, item in enumerate(a_list(old, *path, "functions")):
            read.append(_function(item, (*path, "functions", index)))
    names: set[str] = set()
    for index, tool in enumerate(read):
        name = tool["function"]["name"]
        if name in names:
            where = (*path, "functions" if given is None else "tools")
            raise Fault(f"{spelled(where)} names {quoted(name)} twice", places.value(*where, index))
        names.add(name)
    return tuple(read)


def a_call(value: Any, path: places.Path) -> ToolCall:
    """Reads a tool call. Raises `Fault`."""
    call = an_object(value, *path)
    only_keys(call, path, ("id", "type", "function"), "a tool call")
    if call.get("type") is not None:
        _type(call, path, "function")
    return called(call.get("function"), (*path, "function"), required(call, "id", path))


def called(value: Any, path: places.Path, id: str) -> ToolCall:
    """Reads what is called. Raises `Fault`."""
    if value is None:
        raise missing(str(path[-1]), path[:-1])
    function = an_object(value, *path)
    only_keys(function, path, ("name", "arguments"), "a call")
    name = required(function, "name", path)
    if "arguments" not in function:
        raise missing("arguments", path)
    arguments = a_string(function["arguments"], *path, "arguments")
    if arguments.count("[") + arguments.count("{") > DEEPEST and places.depth(arguments) > DEEPEST:
        text = f"{spelled((*path, 'arguments'))} is nested deeper than {DEEPEST} levels"
        raise Fault(text, places.value(*path, "arguments"))
    return ToolCall(id, name, arguments)


def _function(value: Any, path: places.Path) -> Mapping[str, Any]:
    if value is None:
        raise missing(str(path[-1]), path[:-1])
    function = an_object(value, *path)
    only_keys(function, path, ("name", "description", "parameters", "strict"), "a function")
    name = required(function, "name", path)
    strict = function.get("strict")
    if strict is not None and not isinstance(strict, bool):
        where = (*path, "strict")
        raise Fault(f"{spelled(where)} must be true or false", places.value(*where))
    parameters = function.get("parameters")
    if parameters is not None:
        an_object(parameters, *path, "parameters")
        if nested_too_deeply(parameters):
            text = f"{spelled((*path, 'parameters'))} is nested deeper than {DEEPEST} levels"
            raise Fault(text, places.value(*path, "parameters"))
    described: Object = {
        "name": name,
        "description": optional(function, "description", path),
        "parameters": _NO_PARAMETERS if parameters is None else parameters,
    }
    return {"type": "function", "function": described}


def _type(holder: Object, path: places.Path, only: str) -> None:
    where = (*path, "type")
    if holder.get("type") is None:
        raise missing("type", path)
    if holder["type"] != only:
        raise Fault(f'{spelled(where)} must be "{only}"', places.value(*where))
