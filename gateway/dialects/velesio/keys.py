"""Tells the forms of one path apart, by the keys of its bodies."""

from collections.abc import Awaitable, Callable

import msgspec
from starlette.types import Receive, Send

from gateway.context import RequestContext

Answerer = Callable[[bytes, RequestContext, Receive, Send], Awaitable[None]]
"""Answers a request whose body was read."""


def has_any(keys: msgspec.Struct) -> bool:
    """Tells whether any of the keys is there; one that is null is not."""
    values = (getattr(keys, name) for name in keys.__struct_fields__)
    return any(isinstance(value, msgspec.Raw) and bytes(value) != b"null" for value in values)
