"""Whole answers: a body with its headers, in one go."""

from collections.abc import Iterable

from starlette.types import Send

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
