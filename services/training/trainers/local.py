"""Runs workers as processes of this machine, beside the service.

A worker is in a session of its own, so that what ends the service doesn't end it. A later service
finds it by the lock that it holds.
"""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.errors import Unavailable
from services.training.folder import JobFolder
from services.training.journal import holder, is_locked
from services.training.trainer import Worker, WorkerState
from services.training.trainers.environment import child_environment
from services.training.trainers.memory import oom_kills

_log = logging.getLogger(__name__)
_COMMAND: Final = (sys.executable, "-m", "services.training.worker")
_OOM_SCORE: Final = "500"
"""Where memory gets scarce, a worker goes before the services: it can be started again."""
_MOST_LOG_BYTES: Final = 16 * 1024 * 1024
_MOST_KNOWN: Final = 256
"""Children that are remembered, for why they ended."""
_POLL_S: Final = 0.02


@dataclass(slots=True)
class _Child:
    """A worker that this service has started."""

    process: subprocess.Popen[bytes]
    since: float
    oom_kills: int | None
    """What the kernel had ended before it."""
    killed: bool = False
    """Whether this service has ended it."""


class LocalTrainer:
    """Runs workers on this machine; see `services.training.trainer`."""

    def __init__(
        self,
        *,
        command: Sequence[str] = _COMMAND,
        kernel: Path = Path("/"),
        start_timeout_s: float = 300.0,
        kill_timeout_s: float = 30.0,
    ) -> None:
        """Takes what runs a worker, where the kernel's files are, how long a new worker may take
        until it has its lock, and how long an ended one until it is gone."""
        self._command = command
        self._kernel = kernel
        self._start_timeout_s = start_timeout_s
        self._kill_timeout_s = kill_timeout_s
        self._children: dict[str, _Child] = {}

    async def start(self, job_id: str, folder: Path, attempt: int) -> None:
        """Starts a worker, unless one lives. Raises `Unavailable` where no process can be made."""
        # In one go: whoever is cancelled amid it must not leave a process that nobody knows.
        await asyncio.shield(asyncio.to_thread(self._start, job_id, JobFolder(folder), attempt))

    async def look(self, job_id: str, folder: Path) -> Worker:
        """Looks whether a worker lives, whoever started it."""
        return await asyncio.to_thread(self._look, job_id, JobFolder(folder))

    async def kill(self, job_id: str, folder: Path) -> None:
        """Ends a worker. Raises `Unavailable` where that can't be done from here."""
        await asyncio.to_thread(self._kill, job_id, JobFolder(folder))

    async def close(self) -> None:
        """Lets go of the workers, which live on."""
        for child in self._children.values():
            # Without this, Python warns of a child that nobody waited for.
            child.process.returncode = child.process.poll() or 0
        self._children.clear()

    def _start(self, job_id: str, folder: JobFolder, attempt: int) -> None:
        child = self._children.get(job_id)
        if (child is not None and child.process.poll() is None) or is_locked(folder.lock):
            return
        with suppress(FileNotFoundError):
            if folder.log.stat().st_size > _MOST_LOG_BYTES:
                folder.log.unlink()
        before = oom_kills(self._kernel)
        with folder.log.open("ab") as log:
            try:
                process = subprocess.Popen(
                    [*self._command, str(folder.path.absolute()), str(attempt)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=child_environment(),
                    start_new_session=True,
                )
            except OSError as error:
                _log.error("no worker could be started", exc_info=error)
                raise Unavailable(
                    "This machine can't start another process now. It is tried again."
                ) from error
        with suppress(OSError):
            Path(f"/proc/{process.pid}/oom_score_adj").write_text(_OOM_SCORE)
        if len(self._children) > _MOST_KNOWN:
            lives = {id: one for id, one in self._children.items() if one.process.poll() is None}
            self._children = lives
        self._children[job_id] = _Child(process, time.monotonic(), before)

    def _look(self, job_id: str, folder: JobFolder) -> Worker:
        child = self._children.get(job_id)
        lives = child is not None and child.process.poll() is None
        if is_locked(folder.lock):
            return Worker(WorkerState.ALIVE)
        if child is None:
            return Worker(WorkerState.GONE)
        if not lives:
            return self._gone(child)
        if time.monotonic() - child.since > self._start_timeout_s:
            _log.warning("the worker of %s has not begun and is ended", job_id)
            self._kill(job_id, folder)
            return Worker(WorkerState.GONE, "it did not begin")
        return Worker(WorkerState.STARTING)

    def _kill(self, job_id: str, folder: JobFolder) -> None:
        child = self._children.get(job_id)
        deadline = time.monotonic() + self._kill_timeout_s
        while True:
            lives = child is not None and child.process.poll() is None
            if child is not None and lives:
                child.killed = True
                _end_group(child.process.pid)
            elif not is_locked(folder.lock):
                return
            else:
                _end_holder(folder)
            if time.monotonic() > deadline:
                raise Unavailable("The worker can't be ended. It is tried again.")
            time.sleep(_POLL_S)

    def _gone(self, child: _Child) -> Worker:
        code = child.process.returncode
        if code >= 0:
            return Worker(WorkerState.GONE, f"exited with {code}")
        if child.killed:
            return Worker(WorkerState.GONE, "ended by the service")
        after = oom_kills(self._kernel) if code == -signal.SIGKILL else None
        starved = after is not None and child.oom_kills is not None and after > child.oom_kills
        return Worker(WorkerState.GONE, f"killed by signal {-code}", out_of_memory=starved)


def _end_group(leader: int) -> None:
    """Ends a process and those that it started."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _end_holder(folder: JobFolder) -> None:
    """Ends the process that holds the lock, if it is one of this machine: never another that got
    its process ID."""
    found = holder(folder.lock)
    if found is None:
        return  # it is just coming or going
    try:
        process = os.pidfd_open(found.pid)
    except ProcessLookupError:
        return
    try:
        if not found.is_running():
            if is_locked(folder.lock) and holder(folder.lock) == found:
                raise Unavailable("The worker runs on another machine, and can't be ended here.")
            return
        leads = os.getpgid(found.pid) == found.pid
        signal.pidfd_send_signal(process, signal.SIGKILL)
        if leads:
            _end_group(found.pid)
    except ProcessLookupError:
        return
    finally:
        os.close(process)
