"""HTTP/1.1 on a connection: uvicorn's protocol, with a limit of size and time for heads.

A client that sends its head drop by drop, or never ends it, holds a connection and memory without
having said who it is; uvicorn itself waits for it forever.
"""

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 30.0
"""Time for a whole head, from the connection's start or the head's first byte on."""
MOST_HEAD_BYTES = 64 * 1024
"""Largest head: the request line and all headers."""

_LINGER_S = 1.0
_PHRASES = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class _HeadTooLarge(Exception):  # noqa: N818 (ends parsing)
    pass


class Protocol(HttpToolsProtocol):
    """Refuses heads that are too large, too slow or malformed."""

    head_timeout_s = HEAD_TIMEOUT_S
    most_head_bytes = MOST_HEAD_BYTES

    _deadline: asyncio.TimerHandle | None = None
    _in_head = True
    _refused = False
    _parsed_bytes = 0
    """Of the head, so far."""
    _came_bytes = 0
    """In pieces that did not end the head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Expects a head."""
        super().connection_made(transport)  # pyright: ignore[reportArgumentType]
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came."""
        if self._refused or self.transport.is_closing():  # a parser must not go on after an error
            return
        if self._in_head:
            self._came_bytes += len(data)
            if self._deadline is None:
                self._await_head()
        super().data_received(data)
        if self._in_head and self._came_bytes > self.most_head_bytes:
            self._refuse_size()

    def on_url(self, url: bytes) -> None:
        """Takes a piece of the request's target."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Takes a header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Ends a head."""
        self._in_head = False
        self._head_is_here()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Ends a request; another head may come."""
        self._in_head, self._parsed_bytes, self._came_bytes = True, 0, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is not HTTP."""
        if self._parsed_bytes > self.most_head_bytes:
            self._refuse_size()
        else:
            self._refuse(400, "This is not a valid HTTP request.")

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > self.most_head_bytes:
            raise _HeadTooLarge

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(self.head_timeout_s, self._too_slow)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        if self._answering:  # the next head may wait for the answer's end
            self._await_head()
        elif not self._came_bytes:  # nothing was asked
            self.transport.close()
        else:
            self._refuse(408, "The head of the request did not arrive in time. Send it again.")

    @property
    def _answering(self) -> bool:
        cycle: Any = self.cycle
        return cycle is not None and not cycle.response_complete

    def _refuse_size(self) -> None:
        self._refuse(
            431,
            f"The head of the request is larger than the limit of {self.most_head_bytes} bytes.",
        )

    def _refuse(self, status: int, message: str) -> None:
        """Answers, unless an answer has begun, and closes the connection."""
        if self._refused or self.transport.is_closing():
            return
        self._refused = True
        cycle: Any = self.cycle
        if cycle is None or cycle.response_complete or not cycle.response_started:
            error: dict[str, Any] = {"message": message, "type": "invalid_request_error"}
            body = orjson.dumps({"error": error | {"param": None, "code": None}})
            head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n" % (
                status,
                _PHRASES[status],
            )
            head += b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(head + body)
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        # Closed at once, what the client is still sending would cost it the answer.
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)
