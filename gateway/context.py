"""What the edge knows of a request while it runs."""

import os
import string
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from starlette.types import Scope

from policy.limits_port import Allowance
from policy.limits_requests import Admission
from policy.principals import ANONYMOUS, Principal
from policy.vouchers import KEY as COUNTED_KEY
from policy.vouchers import Vouchers

BACKGROUND = "penstock.background"
"""Key of the scopes of requests that the edge makes to itself, and that nobody waits for."""

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
    dialect: str = ""
    """Name of the dialect that it came in, once it is known."""
    background: bool = False
    """Whether it waits behind what clients wait for."""
    vouchers: Vouchers | None = None
    """Tells services that the request was counted here, once it was."""
    admission: Admission | None = None
    """Its place among the requests of its caller, where that is limited."""
    tokens: Allowance | None = None
    """What the caller may still use of its tokens a minute, once a service told."""
    time_limit_s: float | None = None
    """How long the caller wants to wait."""
    response_headers: list[tuple[bytes, bytes]] = field(default_factory=list[tuple[bytes, bytes]])
    """Headers that the answer shall have, whatever it is."""

    def metadata(self) -> dict[str, str]:
        """What travels to services beside the request."""
        metadata = {"x-request-id": self.request_id}
        if self.authorization is not None:
            metadata["authorization"] = self.authorization
        if self.dialect:
            metadata["x-penstock-dialect"] = self.dialect
        voucher = self.vouchers and self.vouchers.make(self.request_id, self.principal.id)
        if voucher:
            metadata[COUNTED_KEY] = voucher
        for key in ("traceparent", "tracestate"):
            value = self.headers.get(key)
            if value is not None and printable(value):
                metadata[key] = value
        return metadata

    def within(self, most_s: float) -> float:
        """Time that is left for a call that may take so long at most."""
        if self.time_limit_s is None:
            return most_s
        left_s = self.started + self.time_limit_s - time.perf_counter()
        return max(min(most_s, left_s), 0.001)

    def note_tokens(self, allowance: Allowance | None) -> None:
        """Notes what a service told; where several did, the least counts."""
        if allowance is not None and (
            self.tokens is None or allowance.remaining < self.tokens.remaining
        ):
            self.tokens = allowance

    def end(self) -> None:
        """Gives the request's place back, before the caller can know of the end."""
        if self.admission is not None:
            self.admission.end()


def open_context(scope: Scope) -> RequestContext:
    """Makes the context of a request and leaves it in its scope."""
    headers: dict[str, str] = {}
    raw: Iterable[tuple[bytes, bytes]] = scope["headers"]
    for key, value in raw:
        headers.setdefault(key.decode("latin-1"), value.decode("latin-1"))
    given = headers.get("x-request-id", "")
    request_id = given if 0 < len(given) <= _LONGEST_ID and printable(given) else new_id("req_")
    context = RequestContext(request_id, time.perf_counter(), headers)
    context.background = scope.get(BACKGROUND) is True
    scope[_KEY] = context
    return context


def inner_context(authorization: str) -> RequestContext:
    """Makes the context of a call that no client asked for."""
    return RequestContext(
        new_id("req_"), time.perf_counter(), headers={}, authorization=authorization
    )


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
