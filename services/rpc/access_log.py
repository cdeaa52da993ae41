"""Writes one record for each call: method, code, duration, who, under which request ID and trace.
Never a token."""

import logging
import time

from grpc import StatusCode

from services.rpc.call import Call

_logger = logging.getLogger("penstock.access")

# What callers do wrong is their affair; what the server does wrong is ours.
_LEVELS = {
    StatusCode.INTERNAL: logging.ERROR,
    StatusCode.UNKNOWN: logging.ERROR,
    StatusCode.DATA_LOSS: logging.ERROR,
    StatusCode.UNAVAILABLE: logging.WARNING,
}


def record(call: Call, code: StatusCode, *, quiet: bool) -> None:
    """Writes the record of a call that ended; at level DEBUG when `quiet`, for calls such as health
    checks."""
    level = logging.DEBUG if quiet else _LEVELS.get(code, logging.INFO)
    if not _logger.isEnabledFor(level):
        return
    ms = (time.perf_counter() - call.started) * 1e3
    _logger.log(
        level,
        "%s %s %.1f ms",
        call.method,
        code.name,
        ms,
        extra={
            "fields": {
                "method": call.method,
                "code": code.name,
                "ms": round(ms, 3),
                "principal": call.principal.id if call.principal is not None else None,
                "request_id": call.request_id,
                "trace_id": call.trace.trace_id,
            }
        },
    )
