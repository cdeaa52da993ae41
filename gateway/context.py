"""What the edge knows of a request while it runs."""

import os
import string
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from starlette.types import Scope

from policy.limits_port import Allowance
from policy.limits_requests import Admission
from policy.principals import ANONYMOUS, Principal
from policy.vouchers import KEY as COUNTED_KEY
from policy.vouchers import Vouchers
from telemetry import tracing
from telemetry.tracing import UNRECORDED, Span, Trace

BACKGROUND = "penstock.background"
"""Key of the scopes of requests that the edge makes to itself, and that nobody waits for."""

_KEY = "penstock.context"
_current: "ContextVar[RequestContext]" = ContextVar("penstock_request")
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
    trace: Trace = field(default_factory=lambda: tracing.continue_trace(None))
    """Its place in a trace, which goes on in services."""
    span: Span = UNRECORDED
    """What is recorded of it."""
    envelope: str = ""
    """Name of the dialect that errors are told in."""
    route: str = ""
    """The route that it took, as a template."""
    status: int = 0
    """Of its answer, once that begins."""
    failure: str = ""
    """Why it failed: a reason of `gateway.errors`, or that its client left."""
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
        return metadata | tracing.headers(self.trace)

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
    about = {"http.request.method": scope.get("method", ""), "penstock.request_id": request_id}
    trace, span = tracing.begin("request", headers, about)
    context = RequestContext(request_id, time.perf_counter(), headers, trace=trace, span=span)
    context.background = scope.get(BACKGROUND) is True
    scope[_KEY] = context
    _current.set(context)
    return context


def current() -> RequestContext | None:
    """The context of the request that this task answers, if any."""
    return _current.get(None)


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
