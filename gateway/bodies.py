"""Reads request bodies, within their limit."""

import asyncio
import time
from collections.abc import AsyncGenerator

from starlette.types import Message, Receive, Scope

from gateway.errors import ClientGoneError, Problem, ProblemError
from gateway.inline import resumed, steps_of

_SILENCE_S = 60.0
"""Longest pause between two pieces of a body."""
_SLOWEST = 1024
"""Bytes a second below which a body that comes for longer than that is given up."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Reads a whole body.

    Raises:
        ProblemError: it is larger than `limit`, or stalls.
        ClientGoneError: the client left before its end.
    """
    _check_length(scope, limit)
    pieces: list[bytes] = []
    size, began = 0, time.monotonic()
    while True:
        message = await _next(receive)
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            if not pieces:
                return piece
            pieces.append(piece)
            return b"".join(pieces)
        _check_pace(began, size)
        pieces.append(piece)


async def body_pieces(scope: Scope, receive: Receive, limit: int) -> AsyncGenerator[bytes, None]:
    """Reads a body piece by piece, with the limits of `read_body`.

    Raises:
        ProblemError: it is larger than `limit`, or stalls.
        ClientGoneError: the client left before its end.
    """
    _check_length(scope, limit)
    size, more, began = 0, True, time.monotonic()
    while more:
        message = await _next(receive)
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        more = message.get("more_body", False)
        if more:
            _check_pace(began, size)
        yield piece


async def disconnected(receive: Receive) -> None:
    """Returns when the client has left. Call it after the whole body was read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(receive: Receive) -> Message:
    steps = steps_of(receive())
    try:
        waiting = steps.send(None)
    except StopIteration as stop:  # it was here already, as a rule
        return stop.value
    try:
        async with asyncio.timeout(_SILENCE_S):
            return await resumed(steps, waiting)
    except TimeoutError:
        raise _too_slow() from None


def _check_pace(began: float, size: int) -> None:
    spent = time.monotonic() - began
    if spent > _SILENCE_S and size < spent * _SLOWEST:
        raise _too_slow()


def _too_slow() -> ProblemError:
    message = "The body of the request did not arrive in time. Send it again."
    return ProblemError(Problem("BODY_TIMEOUT", message))


def _check_length(scope: Scope, limit: int) -> None:
    for key, value in scope["headers"]:
        if key == b"content-length" and value.isdigit() and int(value) > limit:
            raise _too_large(limit)


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        Problem("BODY_TOO_LARGE", f"The request body is larger than the limit of {limit} bytes.")
    )
