"""The call being served: who, under which request ID and trace. Follows the task through a context
variable."""

import asyncio
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from policy.limits_port import Allowance
from policy.limits_requests import Admission
from policy.principals import Principal
from services.rpc.metadata import (
    DIALECT_KEY,
    NO_DIALECT,
    REQUEST_ID_KEY,
    dialect_from,
    request_id_from,
)
from telemetry import tracing
from telemetry.tracing import UNRECORDED, Span, Trace


@dataclass(slots=True)
class Call:
    """What the chassis knows of a call."""

    method: str
    """Full name, `/penstock.model.v1.ModelService/GetModel`."""
    request_id: str
    """The caller's `x-request-id`, or a new one."""
    trace: Trace
    """The caller's trace continued, or a new one."""
    draining: asyncio.Event
    """Set once the server drains."""
    principal: Principal | None = None
    """Set once the caller is authenticated."""
    dialect: str = NO_DIALECT
    """Dialect that the request came in."""
    admission: Admission | None = None
    """Its place among the requests of its caller, where that is limited."""
    requests: Allowance | None = None
    """What the caller may still do of its requests a minute, once it is counted here."""
    tokens: Allowance | None = None
    """What it may still use of its tokens a minute, once some are reserved."""
    started: float = field(default_factory=time.perf_counter)
    """When it began."""
    span: Span = UNRECORDED
    """What is recorded of it."""
    label: str = ""
    """What metrics call the method, where that is not its own name."""

    @property
    def counted_as(self) -> str:
        """What metrics call the method."""
        return self.label or self.method.lstrip("/")


def opened(
    method: str, metadata: Mapping[str, Any], draining: asyncio.Event, *, recorded: bool = True
) -> Call:
    """Returns the call of a method with these metadata. Not `recorded`, nobody sees its trace."""
    request_id = request_id_from(metadata.get(REQUEST_ID_KEY))
    dialect = dialect_from(metadata.get(DIALECT_KEY))
    if recorded:
        about = {"rpc.system.name": "grpc", "rpc.method": method.lstrip("/")}
        about |= {"penstock.request_id": request_id, "penstock.dialect": dialect}
        trace, span = tracing.begin(about["rpc.method"], metadata, about)
    else:
        traceparent, state = metadata.get(tracing.TRACEPARENT), metadata.get(tracing.TRACESTATE)
        trace, span = tracing.continue_trace(traceparent, state), UNRECORDED
    return Call(method, request_id, trace, draining, dialect=dialect, span=span)


_current: ContextVar[Call] = ContextVar("penstock_call")


def current() -> Call | None:
    """Returns the call being served by this task, if any."""
    return _current.get(None)


def enter(call: Call) -> None:
    """Makes `call` the one that this task serves, until the task ends."""
    _current.set(call)
    tracing.enter(call.trace)


@contextmanager
def serving(call: Call) -> Generator[Call]:
    """Makes `call` the one being served within the block."""
    token = _current.set(call)
    try:
        yield call
    finally:
        _current.reset(token)


def principal() -> Principal:
    """Returns who calls. Raises `LookupError` outside a call of an authenticated method."""
    who = _current.get().principal
    if who is None:
        raise LookupError("The method is open: nobody was authenticated.")
    return who


def request_id() -> str:
    """Returns the ID of the request being served. Raises `LookupError` outside a call."""
    return _current.get().request_id


def method() -> str:
    """Returns the full name of the method being served, without a slash in front. Raises
    `LookupError` outside a call."""
    return _current.get().method.lstrip("/")


def dialect() -> str:
    """Returns the dialect of the request being served. Raises `LookupError` outside a call."""
    return _current.get().dialect


def draining() -> asyncio.Event:
    """Returns the event that is set once the server drains: streams without an end finish on it."""
    return _current.get().draining
