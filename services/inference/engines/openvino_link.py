"""The engine's side of its worker process."""

import asyncio
import contextlib
import socket
import sys

import msgspec

from services.errors import FailedPrecondition, Unavailable
from services.inference.engines.openvino_messages import (
    Broken,
    Frames,
    FromWorker,
    Ready,
    Start,
    frame,
)

PROCESS = ("-m", "services.inference.engines.openvino_process", "worker")
_RECEIVE_BYTES = 2**16
_CLOSE_S = 10.0
"""Time that a worker gets to end by itself, in the middle of a step."""


class WorkerLink:
    """A worker process and the line to it."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._frames = Frames()
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)

    @classmethod
    async def open(cls, start: Start) -> "WorkerLink":
        """Starts a worker and waits until it has loaded the model.

        Raises:
            FailedPrecondition: it can't load it.
            Unavailable: it ended.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable, *PROCESS, str(theirs.fileno()), pass_fds=[theirs.fileno()]
            )
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        link = cls(process, reader, writer)
        try:
            link.send(start)
            match await link.receive():
                case Ready():
                    return link
                case Broken(why):
                    raise FailedPrecondition(f"OpenVINO can't load the converted model: {why}")
                case _:
                    raise Unavailable("The engine's process ended while it loaded the model.")
        except BaseException:
            await link.close()
            raise

    def send(self, message: msgspec.Struct) -> None:
        """Sends without waiting."""
        if not self._writer.is_closing():
            self._writer.write(frame(message))

    async def receive(self) -> FromWorker | None:
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
            async with asyncio.timeout(_CLOSE_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()
