"""Clients that do as little as can be done with an answer: they count its events."""

import asyncio
import socket
import time
from typing import cast

_RECEIVE_BYTES = 4096
_CONNECT_S = 10.0


class RefusedError(Exception):
    """An edge answered with something else than 200."""


class Tally:
    """What all clients together got."""

    def __init__(self) -> None:
        self.events = 0
        self.lost = 0


class StreamClient(asyncio.Protocol):
    """Sends one request and counts the events of its answer."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._began = 0.0
        self._head = b""
        self._open = False
        self.first: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        """Seconds from the request to the first event."""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._open = True
        self._began = time.perf_counter()
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        events = data.count(b"data: ")
        self._tally.events += events
        if not self.first.done():
            self._begin(data, events)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            self._tally.lost += 1
        if not self.first.done():
            self.first.set_exception(RefusedError("the connection was closed before any event"))
            self.first.exception()

    def leave(self) -> None:
        """Closes the connection."""
        self._open = False
        if self.transport is not None:
            self.transport.abort()

    def _begin(self, data: bytes, events: int) -> None:
        self._head += data
        if not self._head.startswith(b"HTTP/1.1 200"[: len(self._head)]):
            self.first.set_exception(RefusedError(self._head.decode("latin-1")))
            self.first.exception()
        elif events:
            self.first.set_result(time.perf_counter() - self._began)


class UnaryClient(asyncio.Protocol):
    """Asks again as soon as it is answered, on one connection."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._data = b""
        self.answers = 0
        self.refusal = ""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, blank, body = self._data.partition(b"\r\n\r\n")
        if not blank:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.refusal = self._data.decode("latin-1")
            self.leave()
        elif _whole(head.lower(), body):
            self.answers += 1
            self._data = b""
            assert self.transport is not None
            self.transport.write(self._request)

    def leave(self) -> None:
        """Closes the connection."""
        if self.transport is not None:
            self.transport.abort()


def _whole(head: bytes, body: bytes) -> bool:
    _, found, rest = head.partition(b"content-length: ")
    if found:
        return len(body) >= int(rest.partition(b"\r\n")[0])
    return body.endswith(b"0\r\n\r\n")


async def connect(address: str, client: asyncio.Protocol) -> None:
    """Connects a client."""
    sock = await _connected(address)
    try:
        await asyncio.get_running_loop().create_connection(lambda: client, sock=sock)
    except BaseException:
        sock.close()
        raise


async def stall(address: str, request: bytes) -> socket.socket:
    """Sends a request over a connection that nobody reads from, and whose buffer is small."""
    sock = await _connected(address, _RECEIVE_BYTES)
    await asyncio.get_running_loop().sock_sendall(sock, request)
    return sock


async def _connected(address: str, receive_bytes: int = 0) -> socket.socket:
    host, _, port = address.rpartition(":")
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        async with asyncio.timeout(_CONNECT_S):
            await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    except BaseException:
        sock.close()
        raise
    return sock
