"""A worker process's end of the line to its engine."""

import contextlib
import select
import signal
import socket
from collections.abc import Callable

import msgspec

from services.inference.engines.openvino_messages import Frames, frame

_RECEIVE_BYTES = 2**16


class LineClosedError(Exception):
    """The engine closed the line."""


class Line:
    """The worker's end of the line."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._frames = Frames()

    def send(self, message: msgspec.Struct) -> None:
        """Sends; waits while the other side doesn't read."""
        try:
            self._socket.sendall(frame(message))
        except OSError as error:
            raise LineClosedError from error

    def receive(self, *, wait: bool) -> bytes | None:
        """The next message; None when there is none and it should not wait."""
        while (body := self._frames.next()) is None:
            if not wait and not select.select([self._socket], [], [], 0)[0]:
                return None
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except OSError as error:
                raise LineClosedError from error
            if not data:
                raise LineClosedError
            self._frames.feed(data)
        return body


def serve_line(descriptor: str, run: Callable[[Line], None]) -> int:
    """Runs a worker on the socket of a descriptor until the line is closed; returns the exit
    status."""
    # A terminal sends Ctrl-C to everyone; the engine ends this process itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as sock, contextlib.suppress(LineClosedError):
        sock.setblocking(True)
        run(Line(sock))
    return 0
