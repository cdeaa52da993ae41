"""Whole answers: a body with its headers, in one go."""

import asyncio
from collections.abc import Iterable, Sequence

from starlette.types import Message, Send

from gateway.errors import ClientGoneError
from gateway.holding import Held

JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; charset=utf-8")


async def send_json(
    send: Send,
    body: bytes,
    status: int = 200,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Answers with JSON."""
    await send_body(send, body, status, [JSON, *headers])


async def send_body(
    send: Send, body: bytes, status: int, headers: Iterable[tuple[bytes, bytes]]
) -> None:
    """Answers with anything; the headers name its type."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def send_pieces(send: Send, pieces: Sequence[Held], slow_reader_s: float) -> None:
    """Answers with JSON that is too large to be joined.

    Raises:
        ClientGoneError: the client left, or stalled for that long.
    """
    length = (b"content-length", b"%d" % sum(map(len, pieces)))
    start: Message = {"type": "http.response.start", "status": 200, "headers": [JSON, length]}
    bodies: Iterable[Message] = (
        {"type": "http.response.body", "body": piece, "more_body": True} for piece in pieces
    )
    end: Message = {"type": "http.response.body", "body": b"", "more_body": False}
    for message in (start, *bodies, end):
        try:
            async with asyncio.timeout(slow_reader_s):
                await send(message)
        except TimeoutError:
            raise ClientGoneError from None
