"""One run of a program as a child process."""

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

LAUNCHER = Path(__file__).with_name("launch.py")
LONGEST_LINE = 64 * 1024


class NotReadyError(Exception):
    """The program ended, or kept silent, before it said where it listens."""


class Lines:
    """Cuts a stream of bytes into lines of text; overlong ones are cut too."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Takes the next bytes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._on_line(line.rstrip(b"\r").decode("utf-8", "replace"))
        if len(self._rest) > LONGEST_LINE:
            self.flush()

    def flush(self) -> None:
        """Hands out what has no line end yet."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._on_line(rest.decode("utf-8", "replace"))


class _Protocol(asyncio.SubprocessProtocol):
    """Passes on what the event loop sees of a child."""

    def __init__(self, out: Lines, err: Lines) -> None:
        self._streams = {1: out, 2: err}
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.silent: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open = set(self._streams)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Takes bytes that the child wrote."""
        self._streams[fd].feed(data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """Takes note that one of the child's streams is closed."""
        if fd in self._streams:
            self._streams[fd].flush()
            self._open.discard(fd)
        if not self._open and not self.silent.done():
            self.silent.set_result(None)

    def process_exited(self) -> None:
        """Takes note that the child is dead; a grandchild may still hold its streams."""
        if not self.exited.done():
            self.exited.set_result(None)


class ChildProcess:
    """One run of a program, in a process group of its own that dies with this process."""

    def __init__(
        self,
        transport: asyncio.SubprocessTransport,
        protocol: _Protocol,
        ready: asyncio.Future[str],
    ) -> None:
        self._transport = transport
        self._protocol = protocol
        self._ready = ready
        self._started = time.monotonic()
        self.pid = transport.get_pid()

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> "ChildProcess":
        """Starts `command`. Every line it writes goes to `on_line`, but for the ready line."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[str] = loop.create_future()

        def on_output(line: str) -> None:
            address = ready_address(line)
            if address and not ready.done():
                ready.set_result(address)
            else:
                on_line(line)

        transport, protocol = await loop.subprocess_exec(
            lambda: _Protocol(Lines(on_output), Lines(on_line)),
            *(sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()), *command),
            stdin=asyncio.subprocess.DEVNULL,
            env=dict(environment),
            start_new_session=True,
        )
        return cls(transport, protocol, ready)

    @property
    def ran_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started

    @property
    def exit_code(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._transport.get_returncode()

    async def address(self, timeout_s: float) -> str:
        """Waits until it says where it listens."""
        await asyncio.wait(
            {self._ready, self._protocol.exited},
            timeout=timeout_s,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if self._ready.done():
            return self._ready.result()
        if self.exit_code is None:
            raise NotReadyError(f"did not say within {timeout_s:.0f} s where it listens")
        raise NotReadyError(describe_exit(self.exit_code))

    async def wait(self) -> int:
        """Waits for its end and returns the exit status. Takes what its group left behind along."""
        await asyncio.shield(self._protocol.exited)
        self.signal(signal.SIGKILL)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._protocol.silent), timeout=0.5)
        self._transport.close()
        code = self.exit_code
        return 0 if code is None else code

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to its whole process group, if any of it is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)


def ready_address(line: str) -> str | None:
    """Returns the address from a ready line, or None when the line is something else."""
    if not line.startswith("{"):
        return None
    try:
        message = json.loads(line)
    except ValueError:
        return None
    fields = cast("dict[str, Any]", message)
    if not {"service", "address"} <= fields.keys() or not isinstance(fields["address"], str):
        return None
    return fields["address"]


def describe_exit(code: int) -> str:
    """Says in words how a program ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
