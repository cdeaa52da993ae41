"""The service's end of a process that reads documents."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
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

    def __init__(self, process: Process) -> None:
        self._process = process
        if process.stdin is None or process.stdout is None:
            raise AssertionError("the process has pipes")
        self._stdin, self._stdout = process.stdin, process.stdout

    @classmethod
    async def start(cls, memory_bytes: int) -> "Child":
        """Starts one."""
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.retrieval.parsing.worker", str(memory_bytes)),
                stdin=PIPE,
                stdout=PIPE,
            )
        )

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
                for part in packed(task):
                    self._stdin.write(part)
                await self._stdin.drain()
                (length,) = HEADER.unpack(await self._stdout.readexactly(HEADER.size))
                return answer_of(await self._stdout.readexactly(length))
        except TimeoutError as error:
            await self.close()
            raise ChildDied(Ended.OUT_OF_TIME) from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            code = await self._process.wait()
            await self.close()
            died_of_time = code == -signal.SIGXCPU
            raise ChildDied(Ended.OUT_OF_TIME if died_of_time else Ended.CRASHED) from error

    async def close(self) -> None:
        """Ends the process, whatever it does."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._stdin.close()
        with suppress(ConnectionError):
            await self._stdin.wait_closed()
        await self._process.wait()
