"""W3C trace context: read from the caller, continued here, passed on to services that this one
calls."""

import random
import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_random = random.Random()


class Trace(NamedTuple):
    """A place in a trace."""

    trace_id: str
    """32 hex digits, the same along the whole way of a request."""
    span_id: str
    """16 hex digits: this service's part."""
    parent_id: str | None
    """16 hex digits: the caller's part, if it told."""
    flags: str
    """2 hex digits; `01` is sampled."""

    @property
    def traceparent(self) -> str:
        """The header that continues the trace in the next service."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def continue_trace(traceparent: str | None) -> Trace:
    """Continues the caller's trace, or begins one where the header is missing or malformed."""
    span_id = f"{_random.getrandbits(64) | 1:016x}"
    if traceparent is not None and (match := _TRACEPARENT.fullmatch(traceparent)) is not None:
        version, trace_id, parent_id, flags, rest = match.groups()
        malformed = version == "ff" or (version == "00" and rest is not None)
        if not malformed and trace_id.strip("0") and parent_id.strip("0"):
            return Trace(trace_id, span_id, parent_id, flags)
    return Trace(f"{_random.getrandbits(128) | 1:032x}", span_id, None, "00")
