"""An engine's side of its worker process."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from typing import Generic, TypeVar

import msgspec

from services.errors import FailedPrecondition, Unavailable
from services.inference.engines.openvino_messages import Broken, Frames, frame

PROCESS = ("-m", "services.inference.engines.openvino_process")
_RECEIVE_BYTES = 2**16
_CLOSE_S = 10.0
"""Time that a worker gets to end by itself, in the middle of a step."""


Answer = TypeVar("Answer")


class WorkerLink(Generic[Answer]):
    """A worker process and the line to it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        decoder: msgspec.msgpack.Decoder[Answer],
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._frames = Frames()
        self._decoder = decoder

    @classmethod
    async def open(
        cls, worker: str, start: msgspec.Struct, decoder: msgspec.msgpack.Decoder[Answer]
    ) -> "tuple[WorkerLink[Answer], Answer]":
        """Starts a worker of a kind, and waits until it has loaded the model.

        Returns the line and the worker's first word.

        Raises:
            FailedPrecondition: it can't load it.
            Unavailable: it ended.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = _started(worker, theirs)
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        link = cls(process, reader, writer, decoder)
        try:
            link.send(start)
            first = await link.receive()
            if isinstance(first, Broken):
                raise FailedPrecondition(f"OpenVINO can't load the model: {first.why}")
            if first is None:
                raise Unavailable("The engine's process ended while it loaded the model.")
            return link, first
        except BaseException:
            await link.close()
            raise

    def send(self, message: msgspec.Struct) -> None:
        """Sends without waiting."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def receive(self) -> Answer | None:
        """The next message; None when the worker is gone."""
        while (body := self._frames.next()) is None:
            try:
                data = await self._reader.read(_RECEIVE_BYTES)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._frames.feed(data)
        return self._decoder.decode(body)

    async def close(self) -> None:
        """Ends the worker."""
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, _CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


def _started(worker: str, line: socket.socket) -> subprocess.Popen[bytes]:
    """Starts a process. Not asyncio's way, which forks: a fork may die of gRPC's threads."""
    command = [sys.executable, *PROCESS, worker, str(line.fileno())]
    return subprocess.Popen(command, pass_fds=[line.fileno()])
