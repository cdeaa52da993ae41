"""Relays the bytes of an RPC to a client, piece by piece, with their length known before."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Protocol

from starlette.types import Message, Receive, Send

from gateway.errors import ClientGoneError, ProblemError, unavailable
from gateway.relays import CUT_SHORT, EventCall, EventReader


class Piece(Protocol):
    """A piece of a file, as `google.api.HttpBody` is one."""

    @property
    def data(self) -> bytes:
        """Its bytes."""
        ...


async def download(
    call: EventCall[Piece],
    size: int,
    receive: Receive,
    send: Send,
    *,
    headers: Iterable[tuple[bytes, bytes]],
    slow_reader_s: float,
) -> None:
    """Answers with the bytes that a call streams, which are `size` in all.

    Raises:
        ProblemError: the call failed, or its bytes are fewer or more. Once some are sent, all that
            is left is to cut the connection, and that is before the last.
        ClientGoneError: the client left, or stalled for that long; the call was cancelled.
    """
    async with EventReader(call, receive) as reader, aclosing(_pieces(reader, size)) as pieces:
        data = await anext(pieces, b"")  # what fails before it has a status of its own
        start: Message = {"type": "http.response.start", "status": 200, "headers": [*headers]}
        await _send(send, start, slow_reader_s)
        while data:
            body: Message = {"type": "http.response.body", "body": data, "more_body": True}
            await _send(send, body, slow_reader_s)
            data = await anext(pieces, b"")
        end: Message = {"type": "http.response.body", "body": b"", "more_body": False}
        await _send(send, end, slow_reader_s)


async def _pieces(reader: EventReader, size: int) -> AsyncGenerator[bytes, None]:
    """Yields each piece when the next is there: the last only when the call has ended well."""
    held, left = b"", size
    while (piece := await reader.read()) is not None:
        left -= len(piece.data)
        if left < 0:
            break
        if held and piece.data:
            yield held
        held = piece.data or held
    if left:
        raise ProblemError(unavailable(CUT_SHORT))
    if held:
        yield held


async def _send(send: Send, message: Message, slow_reader_s: float) -> None:
    try:
        async with asyncio.timeout(slow_reader_s):
            await send(message)
    except TimeoutError:
        raise ClientGoneError from None
