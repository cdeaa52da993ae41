"""What the chassis reads from a call's metadata."""

import random
import re
from typing import Any

REQUEST_ID_KEY = "x-request-id"
"""Names a request, from the caller and back to it (as trailing metadata)."""

DIALECT_KEY = "x-penstock-dialect"
"""Tells in which dialect a request came to the edge."""

NO_DIALECT = "grpc"
"""The dialect of who calls a service directly."""

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""

_PEER = "peer_spiffe_id"
_MOST_REQUEST_ID = 128
_DIALECT = re.compile(r"[a-z][a-z0-9_-]{0,31}")
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


def dialect_from(given: object) -> str:
    """Returns the dialect that the edge tells of, else that of direct callers."""
    return given if isinstance(given, str) and _DIALECT.fullmatch(given) else NO_DIALECT


def spiffe_id_of(context: Context) -> str:
    """Returns the SPIFFE ID in the caller's certificate, which was verified; empty for none."""
    # gRPC names it only where the certificate has one such ID, and no other URI.
    found = context.auth_context().get(_PEER, ())
    return found[0].decode("utf-8", "replace") if len(found) == 1 else ""
