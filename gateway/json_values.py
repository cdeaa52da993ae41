"""What models and engines yield, as JSON can hold it."""

import math

import msgspec

_LEAST_LOGPROB = -9999.0
"""What OpenAI writes for minus infinity, and others after it."""


def finite(logprob: float) -> float:
    """A log-probability; JSON has no infinity."""
    return logprob if math.isfinite(logprob) else _LEAST_LOGPROB


def object_of(arguments: str) -> msgspec.Raw:
    """The arguments of a call, where an object must be: what was cut short is an empty one."""
    try:
        value: object = msgspec.json.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        value = None
    return msgspec.Raw(arguments.encode() if isinstance(value, dict) else b"{}")
