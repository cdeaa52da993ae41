"""Whole answers: JSON with its headers, in one go."""

from collections.abc import Iterable

from starlette.types import Send

JSON = (b"content-type", b"application/json")


async def send_json(
    send: Send,
    body: bytes,
    status: int = 200,
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Answers with JSON."""
    length = (b"content-length", b"%d" % len(body))
    await send(
        {"type": "http.response.start", "status": status, "headers": [JSON, length, *headers]}
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
