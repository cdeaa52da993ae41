"""Decodes query strings into schemas, with the errors that bodies have."""

import re
from typing import Generic, TypeVar
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect
from starlette.types import Scope

from gateway.validation import decode

T = TypeVar("T", bound=msgspec.Struct)

_WHOLE = re.compile(r"-?\d{1,18}")


class QueryDecoder(Generic[T]):
    """Decodes query strings into one kind of struct. Empty and unknown parameters are ignored."""

    def __init__(self, kind: type[T]) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        described = inspect.type_info(kind)
        assert isinstance(described, inspect.StructType)
        self._whole = {
            item.encode_name for item in described.fields if isinstance(item.type, inspect.IntType)
        }

    def __call__(self, scope: Scope) -> T:
        """Decodes the query string of a request; of equal names the first counts.

        Raises:
            ProblemError: a parameter is of the wrong type or out of range.
        """
        given: dict[str, str | int] = {}
        text = bytes(scope["query_string"]).decode("utf-8", "replace")
        for name, value in parse_qsl(text):
            whole = name in self._whole and _WHOLE.fullmatch(value)
            given.setdefault(name, int(value) if whole else value)
        return decode(self._decoder, msgspec.json.encode(given))
