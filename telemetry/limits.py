"""What is told of limits that callers reach, wherever they are counted."""

from prometheus_client import Counter

from telemetry.registry import REGISTRY

REFUSED = Counter(
    "penstock_limits_refused",
    "Requests that were turned away where they reached a limit of their caller, by limit: "
    "requests, concurrency, tokens, day, month; unchecked where it could not be told.",
    ["limit"],
    registry=REGISTRY,
)
UNCHECKED = "unchecked"
"""The limit of requests that were turned away because nobody could count them."""
_LIMITS = ("requests", "concurrency", "tokens", "day", "month", UNCHECKED)
for _limit in _LIMITS:  # a series that begins with its first refusal hides it from `rate`
    REFUSED.labels(_limit)


def refused(limit: str) -> None:
    """Takes in that a limit was reached."""
    REFUSED.labels(limit).inc()
