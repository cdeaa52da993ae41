"""Takes whole answers off the step stream."""

import asyncio

from gateway.errors import ClientGoneError, Problem, ProblemError, from_status
from gateway.step_calls import StepCall

_MOST_BYTES = 65 * 1024 * 1024
"""Largest answer: as large as a message of the unary RPCs may be."""


async def whole_answer(call: StepCall, gone: "asyncio.Future[None]") -> bytes:
    """Returns the serialised answer of a call that was opened for a whole one.

    Raises:
        ProblemError: it failed.
        ClientGoneError: `gone` was done before; the call was cancelled.
    """
    gone.add_done_callback(lambda _: call.wake())
    pieces: list[bytes] = []
    size = 0
    try:
        while True:
            while call.buffer:
                kind, update = call.buffer.popleft()
                if kind == "error":
                    raise ProblemError(from_status(update.error))
                piece = update.answer if kind == "answer" else update.piece
                size += len(piece)
                if size > _MOST_BYTES:
                    message = "The answer is too large. Ask for less at once, or stream it."
                    raise ProblemError(Problem("MESSAGE_TOO_LARGE", message))
                if kind == "answer" and not pieces:
                    return piece
                pieces.append(piece)
                if kind == "answer":
                    return b"".join(pieces)
            if gone.done():
                raise ClientGoneError
            await call.wait()
    finally:
        call.cancel()
