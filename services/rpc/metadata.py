"""What the chassis reads from a call's metadata."""

import random
from typing import Any

REQUEST_ID_KEY = "x-request-id"
"""Names a request, from the caller and back to it (as trailing metadata)."""

TRACEPARENT_KEY = "traceparent"
"""W3C trace context."""

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""

_MOST_REQUEST_ID = 128
# Unique is enough: a request ID is no secret.
_random = random.Random()


def request_id_from(given: object) -> str:
    """Returns the caller's ID if it is 1 to 128 printable ASCII characters, else a new one."""
    if (
        isinstance(given, str)
        and 0 < len(given) <= _MOST_REQUEST_ID
        and given.isascii()
        and given.isprintable()
    ):
        return given
    return f"req_{_random.getrandbits(96):024x}"
