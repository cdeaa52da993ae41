"""Decodes query strings into schemas, with the errors that bodies have."""

import re
from collections.abc import Sequence
from typing import Any, Generic, TypeVar, cast
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect
from starlette.types import Scope

from gateway.errors import ProblemError, invalid
from gateway.validation import decode

T = TypeVar("T", bound=msgspec.Struct)

_WHOLE = re.compile(r"-?\d{1,18}")
_PROPERTY = re.compile(r"([^\[\]]+)\[(.*)\]", re.DOTALL)
_SWITCHES = {"true": True, "false": False}


class QueryDecoder(Generic[T]):
    """Decodes query strings into one kind of struct. Empty and unknown parameters are ignored.

    `a[b]=c` is the property b of an object a. There an empty value counts, as the text that it is.
    """

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        described = inspect.type_info(kind)
        assert isinstance(described, inspect.StructType)
        self._types = {item.encode_name: _options(item.type) for item in described.fields}

    def __call__(self, scope: Scope) -> T:
        """Decodes the query string of a request; of equal names the first counts.

        Raises:
            ProblemError: a parameter is of the wrong type, out of range or given in two forms.
        """
        given: dict[str, Any] = {}
        text = bytes(scope["query_string"]).decode("utf-8", "replace")
        for name, value in parse_qsl(text, keep_blank_values=True):
            part = _PROPERTY.fullmatch(name)
            if part is not None and self._may_be(part[1], inspect.DictType):
                into = given.setdefault(part[1], {})
                if not isinstance(into, dict):
                    raise _clash(part[1])
                cast("dict[str, str]", into).setdefault(part[2], value)
            elif value:
                if isinstance(given.get(name), dict):
                    raise _clash(name)
                given.setdefault(name, self._typed(name, value))
        return decode(self._decoder, msgspec.json.encode(given))

    def _typed(self, name: str, value: str) -> str | int | bool:
        if self._may_be(name, inspect.IntType) and _WHOLE.fullmatch(value):
            return int(value)
        if self._may_be(name, inspect.BoolType):
            return _SWITCHES.get(value.lower(), value)
        return value

    def _may_be(self, name: str, kind: type[inspect.Type]) -> bool:
        return any(isinstance(option, kind) for option in self._types.get(name, ()))


def _options(kind: inspect.Type) -> Sequence[inspect.Type]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _clash(name: str) -> ProblemError:
    return invalid(f"Invalid '{name}': it is given in two forms. Send one of them.", name)
