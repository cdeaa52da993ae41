"""What gRPC servers tell of their calls."""

from functools import lru_cache

from prometheus_client import Counter, Histogram

from telemetry.registry import REGISTRY, SHORT_SECONDS

DURATION = Histogram(
    "rpc_server_call_duration_seconds",
    "Time of calls that were served, by method and status. Streams count whole.",
    ["rpc_system_name", "rpc_method", "rpc_response_status_code"],
    buckets=SHORT_SECONDS,
    registry=REGISTRY,
)
ERRORS = Counter(
    "penstock_rpc_errors",
    "Calls that ended in an error, by method and by reason (penstock.errors.v1.ErrorReason).",
    ["rpc_method", "reason"],
    registry=REGISTRY,
)


@lru_cache(maxsize=1024)
def _duration(method: str, code: str) -> Histogram:
    return DURATION.labels("grpc", method, code)


def ended(method: str, code: str, seconds: float) -> None:
    """Takes a call in that ended."""
    _duration(method, code).observe(seconds)


def failed(method: str, reason: str) -> None:
    """Takes in why a call failed."""
    ERRORS.labels(method, reason).inc()
