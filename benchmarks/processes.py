"""Child processes: each prints one line of JSON when it is ready, and is stopped by its own id."""

import asyncio
import contextlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
_READY_S = 30.0
_STOP_S = 5.0
_SHOWN_BYTES = 3000


class ChildError(Exception):
    """A child process did not do what it was started for."""


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its threads so far, from its own CPU clock."""
    return time.clock_gettime((~pid << 3) | 2)


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize()


def raise_file_limit() -> None:
    """Allows as many sockets as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """What a child sees: no setting of the one who runs the benchmark reaches it."""
    kept = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
    env = {key: os.environ[key] for key in kept if key in os.environ}
    paths = (REPOSITORY, REPOSITORY / "protos" / "gen" / "python")
    env["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths)
    return env | dict(extra)


class Child:
    """A process of ours that runs."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log
        self.name = name
        self.ready: dict[str, Any] = {}
        """What it said of itself when it was ready."""

    @classmethod
    async def start(
        cls,
        name: str,
        argv: Sequence[str],
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        announces: bool = True,
        ready_s: float = _READY_S,
    ) -> "Child":
        """Starts `argv` in `folder`, and waits for its line unless it announces nothing."""
        log = Path(tempfile.mkstemp(prefix=f"{name}-", suffix=".log", dir=folder)[1])
        errors = os.open(log, os.O_WRONLY)
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=folder,
                env=environment(env or {}),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE if announces else errors,
                stderr=errors,
            )
        finally:
            os.close(errors)
        child = cls(name, process, log)
        if announces:
            try:
                child.ready = await child._line(ready_s)
            except BaseException:
                await child.stop()
                raise
        return child

    @classmethod
    async def module(
        cls,
        name: str,
        module: str,
        folder: Path,
        *args: str,
        env: Mapping[str, str] | None = None,
        ready_s: float = _READY_S,
    ) -> "Child":
        """Starts a Python module that announces itself."""
        argv = (sys.executable, "-m", module, *args)
        return await cls.start(name, argv, folder, env, ready_s=ready_s)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ask(self, job: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Sends one line and waits for the answer's line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._line(timeout_s)

    async def stop(self, within_s: float = _STOP_S) -> None:
        """Asks it to end, and ends it when it does not within that time."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), within_s)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()

    async def _line(self, timeout_s: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_s)
            answer: dict[str, Any] = json.loads(line)
        except (TimeoutError, ValueError) as error:
            told = self._log.read_bytes()[-_SHOWN_BYTES:].decode("utf-8", "replace")
            why = (
                f"said nothing for {timeout_s:g} s" if isinstance(error, TimeoutError) else "ended"
            )
            raise ChildError(f"{self.name} {why}\n{told}") from None
        if "error" in answer:
            raise ChildError(f"{self.name}: {answer['error']}")
        return answer
