"""The service's end of a process that reads documents."""

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from enum import Enum

from services.retrieval.parsing.messages import HEADER, Answer, Task, answer_of, packed

WALL_PER_CPU = 20
"""A process that waits for its processor still gets this many times its processor time."""


class Ended(Enum):
    """Why there is no answer."""

    OUT_OF_TIME = "out of time"
    OUT_OF_MEMORY = "out of memory"
    CRASHED = "crashed"


class ChildDied(Exception):  # noqa: N818 (reads as what happened)
    """The process ended before it answered."""

    def __init__(self, reason: Ended) -> None:
        super().__init__(reason.value)
        self.reason = reason


class Child:
    """A process that reads one document at a time."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, memory_bytes: int) -> "Child":
        """Starts one."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.to_thread(_spawn, theirs, memory_bytes)
            return cls(process, *await asyncio.open_unix_connection(sock=ours))
        except BaseException:
            ours.close()  # then the process, if there is one, ends
            raise

    @property
    def pid(self) -> int:
        """Its process ID."""
        return self._process.pid

    async def ask(self, task: Task) -> Answer:
        """Has a document read. Raises ChildDied; the process is then gone.

        After any other error, cancellation included, it has to be closed.
        """
        try:
            async with asyncio.timeout(WALL_PER_CPU * task.cpu_s):
                if self._writer.is_closing():
                    raise ConnectionResetError
                self._writer.writelines(packed(task))
                await self._writer.drain()
                (length,) = HEADER.unpack(await self._reader.readexactly(HEADER.size))
                return answer_of(await self._reader.readexactly(length))
        except TimeoutError as error:
            await self.close()
            raise ChildDied(Ended.OUT_OF_TIME) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            code = await self._ended()
            await self.close()
            died_of_time = code == -signal.SIGXCPU
            raise ChildDied(Ended.OUT_OF_TIME if died_of_time else Ended.CRASHED) from error

    async def close(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        await self._ended()

    async def _ended(self) -> int:
        return await asyncio.to_thread(self._process.wait)


def _spawn(theirs: socket.socket, memory_bytes: int) -> subprocess.Popen[bytes]:
    """Starts a process at the other end of a socket.

    Not by the event loop's own way: uvloop forks, and what gRPC does at a fork crashed one process
    in a hundred. This way has no fork to hook into.
    """
    with theirs:
        return subprocess.Popen(
            [sys.executable, "-m", "services.retrieval.parsing.worker", str(memory_bytes)],
            stdin=theirs.fileno(),
            stdout=theirs.fileno(),
        )
