"""The call being served: who, under which request ID and trace. Follows the task through a context
variable."""

import asyncio
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from policy.limits_port import Allowance
from policy.limits_requests import Admission
from policy.principals import Principal
from services.rpc.metadata import NO_DIALECT
from services.rpc.tracing import Trace


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


_current: ContextVar[Call] = ContextVar("penstock_call")


def current() -> Call | None:
    """Returns the call being served by this task, if any."""
    return _current.get(None)


def enter(call: Call) -> None:
    """Makes `call` the one that this task serves, until the task ends."""
    _current.set(call)


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
