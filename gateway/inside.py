"""Requests that the edge makes to itself, without a connection: through the same application, so
that what guards clients' requests guards these."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Message

from gateway.context import BACKGROUND


@dataclass(frozen=True, slots=True)
class InsideAnswer:
    """What was answered."""

    status: int
    headers: Mapping[str, str]
    """By lower-case name; the first of equal names."""
    body: bytes


async def post_inside(
    app: ASGIApp,
    path: str,
    body: bytes,
    *,
    authorization: str | None,
    request_id: str,
) -> InsideAnswer:
    """Posts JSON to an application, and returns the whole answer. It waits behind all that clients
    ask for.

    Raises `RuntimeError` where it gives none.
    """
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode("ascii")),
    ]
    if authorization is not None:
        headers.append((b"authorization", authorization.encode("latin-1")))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("ascii"),
        "root_path": "",
        "query_string": b"",
        "headers": headers,
        "client": None,
        "server": None,
        # No client can say this: scopes of connections have no such key.
        BACKGROUND: True,
    }
    answer = _Answer()
    await app(scope, _Body(body).receive, answer.send)
    return answer.whole()


class _Body:
    """A body that is here, of a client that never leaves."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body

    async def receive(self) -> Message:
        if self._body is None:
            await asyncio.get_running_loop().create_future()  # until it is cancelled
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """Collects an answer."""

    def __init__(self) -> None:
        self._start: Message | None = None
        self._pieces: list[bytes] = []
        self._ended = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._pieces.append(message.get("body", b""))
            self._ended = not message.get("more_body", False)

    def whole(self) -> InsideAnswer:
        if self._start is None or not self._ended:
            raise RuntimeError("a request of the edge to itself was not answered")
        headers: dict[str, str] = {}
        for name, value in self._start.get("headers", ()):
            headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
        return InsideAnswer(self._start["status"], headers, b"".join(self._pieces))
