"""What is told of a call when it ends: to logs, metrics and traces."""

import time

from grpc import StatusCode

from services.errors import DomainError
from services.rpc import access_log
from services.rpc.call import Call
from telemetry import calls

UNKNOWN_METHOD = "_OTHER"
"""What metrics call methods that nobody serves: callers make up their names."""


def ended(call: Call, code: StatusCode, *, quiet: bool, error: DomainError | None = None) -> None:
    """Tells that a call ended, and why it failed where that is known. `quiet` is for calls such as
    health checks."""
    access_log.record(call, code, quiet=quiet)
    calls.ended(call.counted_as, code.name, time.perf_counter() - call.started)
    if error is not None:
        calls.failed(call.counted_as, error.reason)
    span = call.span
    if span.recorded:
        span.note({"rpc.response.status_code": code.name})
    failed = code.name if code is not StatusCode.OK else ""
    span.end(error.reason if error is not None else failed)
