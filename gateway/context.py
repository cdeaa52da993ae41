"""What the edge knows of a request while it runs."""

import os
import string
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.types import Scope

from gateway.auth import ANONYMOUS, Principal

_KEY = "penstock.context"
_BASE62 = (string.digits + string.ascii_uppercase + string.ascii_lowercase).encode("ascii")
_LETTERS = bytes(_BASE62[byte % 62] for byte in range(256))
_LONGEST_ID = 128


@dataclass(slots=True)
class RequestContext:
    """One request, from its headers on."""

    request_id: str
    started: float
    """On the clock of `time.perf_counter`."""
    headers: dict[str, str]
    """By lower-case name; the first of equal names."""
    principal: Principal = ANONYMOUS
    authorization: str | None = None
    """The caller's credential, when it is known to be good: it travels on."""
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    """Headers that the answer shall have, whatever it is."""

    def metadata(self) -> dict[str, str]:
        """What travels to services beside the request."""
        metadata = {"x-request-id": self.request_id}
        if self.authorization is not None:
            metadata["authorization"] = self.authorization
        for key in ("traceparent", "tracestate"):
            value = self.headers.get(key)
            if value is not None and printable(value):
                metadata[key] = value
        return metadata


def open_context(scope: Scope) -> RequestContext:
    """Makes the context of a request and leaves it in its scope."""
    headers: dict[str, str] = {}
    raw: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for key, value in raw:
        headers.setdefault(key.decode("latin-1"), value.decode("latin-1"))
    given = headers.get("x-request-id", "")
    request_id = given if 0 < len(given) <= _LONGEST_ID and printable(given) else new_id("req_")
    context = RequestContext(request_id, time.perf_counter(), headers)
    scope[_KEY] = context
    return context


def context_of(scope: Scope) -> RequestContext:
    """The context of a request."""
    context: RequestContext = scope[_KEY]
    return context


def new_id(prefix: str) -> str:
    """Makes an identifier: the prefix and 24 base62 characters."""
    return prefix + os.urandom(24).translate(_LETTERS).decode("ascii")


def printable(text: str) -> bool:
    """Tells whether a text may stand in a header of ours."""
    return text.isascii() and text.isprintable()
