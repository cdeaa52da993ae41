"""W3C trace context: read from the caller, continued here, passed on to whatever is called.

Every request has a place in a trace, also where nothing records traces: logs name it. What records
them is put in by `record_with`; without it, a span is a number and costs no more.
"""

import random
import re
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"

Attributes = Mapping[str, str | int | float | bool]
"""What a span tells, by names of OpenTelemetry's conventions. Never what somebody wrote."""

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MOST_STATE = 512
_random = random.Random()


class Trace(NamedTuple):
    """A place in a trace."""

    trace_id: str
    """32 hex digits, the same along the whole way of a request."""
    span_id: str
    """16 hex digits: this process's part."""
    parent_id: str | None
    """16 hex digits: the caller's part, if it told."""
    flags: str
    """2 hex digits; `01` is sampled."""
    state: str = ""
    """What the tracing systems of callers passed along."""

    @property
    def traceparent(self) -> str:
        """The header that continues the trace in the next process."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


class Span(Protocol):
    """A stretch of work that is being recorded, perhaps."""

    @property
    def recorded(self) -> bool:
        """Whether anybody will see it: what costs something is told only then."""
        ...

    def note(self, attributes: Attributes) -> None:
        """Tells more of it."""
        ...

    def child(self, name: str, attributes: Attributes) -> "tuple[Trace, Span]":
        """Begins a part of it, within this process."""
        ...

    def end(self, error: str = "", *, name: str = "") -> None:
        """Ends it; `error` says of which kind its failure is, empty for none. `name` takes the
        place of the one that it began with."""
        ...


class Recorder(Protocol):
    """Records spans."""

    def begin(self, name: str, came: Trace | None, attributes: Attributes) -> tuple[Trace, Span]:
        """Begins the span of a request that came in, from this place of a caller's trace."""
        ...


class _Unrecorded:
    recorded = False

    def note(self, attributes: Attributes) -> None:
        """Tells nobody."""

    def child(self, name: str, attributes: Attributes) -> tuple[Trace, Span]:
        """Stays at the same place."""
        return here() or continue_trace(None), self

    def end(self, error: str = "", *, name: str = "") -> None:
        """Tells nobody."""


UNRECORDED: Span = _Unrecorded()
"""A span that nobody records."""

_recorder: Recorder | None = None
_here: ContextVar[Trace] = ContextVar("penstock_trace")


def record_with(recorder: Recorder | None) -> None:
    """Has spans recorded from now on. None: not at all."""
    global _recorder
    _recorder = recorder


def begin(name: str, headers: Mapping[str, Any], attributes: Attributes) -> tuple[Trace, Span]:
    """Begins the span of a request that came in with these headers or metadata."""
    traceparent, state = headers.get(TRACEPARENT), headers.get(TRACESTATE)
    if _recorder is None:
        return continue_trace(traceparent, state), UNRECORDED
    return _recorder.begin(name, _read(traceparent, state), attributes)


def continue_trace(traceparent: object, state: object = None) -> Trace:
    """Continues the caller's trace, or begins one where the header is missing or malformed."""
    came = _read(traceparent, state)
    span_id = f"{_random.getrandbits(64) | 1:016x}"
    if came is None:
        return Trace(f"{_random.getrandbits(128) | 1:032x}", span_id, None, "00")
    return Trace(came.trace_id, span_id, came.span_id, came.flags, came.state)


def enter(trace: Trace) -> None:
    """Makes this the place that the present task works at."""
    _here.set(trace)


def here() -> Trace | None:
    """Returns the place that the present task works at, if any."""
    return _here.get(None)


def headers(trace: Trace | None = None) -> dict[str, str]:
    """Returns the headers that continue a trace in what is called: the present task's by default;
    none outside of a request."""
    trace = trace or here()
    if trace is None:
        return {}
    found = {TRACEPARENT: trace.traceparent}
    if trace.state:
        found[TRACESTATE] = trace.state
    return found


def _read(traceparent: object, state: object) -> Trace | None:
    """Reads the caller's place."""
    if not isinstance(traceparent, str):
        return None
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest is not None):
        return None
    if not trace_id.strip("0") or not span_id.strip("0"):
        return None
    kept = isinstance(state, str) and len(state) <= _MOST_STATE
    kept = kept and str(state).isascii() and str(state).isprintable()
    return Trace(trace_id, span_id, None, flags, str(state) if kept else "")
