"""Workers as processes that begin with everything imported, as copies of one that has done that.

They are processes like others, with locks, signals and ends of their own. What they save is ten
seconds of a processor each, in tests that kill one after the other.
"""

import multiprocessing
import os
import resource
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from services.training.folder import JobFolder
from services.training.worker.__main__ import main

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.conformance.training.worker_imports"])


class WarmWorker:
    """A worker, called as a `subprocess.Popen` is.

    Args:
        folder: of the job.
        attempt: its number.
        file_bytes: length that no file of it may exceed; None for no limit.
    """

    def __init__(self, folder: JobFolder, attempt: int, file_bytes: int | None = None) -> None:
        self._process: ForkServerProcess = _context.Process(
            target=_work, args=(folder.path, attempt, folder.log, file_bytes)
        )
        self._process.start()

    @property
    def pid(self) -> int:
        """Its process ID."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, if it has ended."""
        return self._process.exitcode

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Sends a signal, if it hasn't ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it as kill -9 does."""
        self._process.kill()


def _work(folder: Path, attempt: int, log: Path, file_bytes: int | None) -> None:
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    with log.open("ab") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    sys.exit(main([str(folder), str(attempt)]))
