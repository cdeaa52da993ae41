"""Decodes the texts of a form into schemas: `"true"` and `"2"` become what the schema says."""

import json
import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import inspect

from gateway.errors import ProblemError, invalid
from gateway.validation import decode

T = TypeVar("T", bound=msgspec.Struct)

_DEEPEST = 4
_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_KEY = re.compile(r"\[([^\[\]]*)\]")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "false": False}


class FormDecoder(Generic[T]):
    """Decodes forms into one kind of struct.

    `a[b]` is the property b of a, `a[]` adds to the list a. Unknown names are ignored. An empty
    text is how clients write null: an absent field, unless it is required.
    """

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._type = inspect.type_info(kind)

    def __call__(self, texts: Sequence[tuple[str, str]]) -> T:
        """Decodes the texts of a form.

        Raises:
            ProblemError: a field is missing, given twice, of the wrong type or out of range.
        """
        root: dict[str, Any] = {}
        for name, text in texts:
            match = _NAME.fullmatch(name)
            if match is None:
                continue
            path = [match[1], *_KEY.findall(match[2])]
            if len(path) <= _DEEPEST:
                self._put(root, path, name, text)
        return decode(self._decoder, json.dumps(root).encode())

    def _put(self, root: dict[str, Any], path: list[str], name: str, text: str) -> None:
        required, leaf = _field(self._type, path)
        if not leaf or (not text and not required):
            return
        value = _typed(leaf, text)
        into: Any = root
        for key, following in zip(path, [*path[1:], None], strict=True):
            fresh: Any = value if following is None else ([] if following == "" else {})
            if key == "":
                if not isinstance(into, list):
                    raise _clash(name)
                items = cast("list[Any]", into)
                items.append(fresh)
                into = fresh
                continue
            if not isinstance(into, dict):
                raise _clash(name)
            table = cast("dict[str, Any]", into)
            if key not in table:
                table[key] = fresh
            elif following is None or type(table[key]) is not type(fresh):
                raise _clash(name)
            into = table[key]


def _clash(name: str) -> ProblemError:
    return invalid(f"Invalid '{name}': the form has this field twice. Send it once.", name)


def _field(kind: inspect.Type, path: Sequence[str]) -> tuple[bool, Sequence[inspect.Type]]:
    """Finds what a path leads to: whether it must be there, and its types."""
    options: Sequence[inspect.Type] = (kind,)
    required = False
    for key in path:
        found: list[inspect.Type] = []
        required = False
        for option in options:
            if isinstance(option, inspect.StructType):
                for item in option.fields:
                    if item.encode_name == key:
                        required = item.required
                        found.append(item.type)
            elif isinstance(option, inspect.DictType) and key:
                found.append(option.value_type)
            elif isinstance(option, inspect.ListType) and not key:
                found.append(option.item_type)
            elif isinstance(option, inspect.AnyType | inspect.RawType):
                found.append(option)
        options = [part for option in found for part in _parts(option)]
    return required, options


def _parts(kind: inspect.Type) -> Sequence[inspect.Type]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _typed(options: Sequence[inspect.Type], text: str) -> Any:
    """Reads a text as the first type that it fits; else it stays one, for the schema to judge."""
    for option in options:
        if isinstance(option, inspect.BoolType) and text.lower() in _BOOLEANS:
            return _BOOLEANS[text.lower()]
        if isinstance(option, inspect.IntType) and _WHOLE.fullmatch(text):
            return int(text)
        if isinstance(option, inspect.FloatType) and _NUMBER.fullmatch(text):
            return float(text)
    return text
