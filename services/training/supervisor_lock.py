"""One supervisor at a time: the lock on a folder of training."""

import asyncio
import fcntl
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def sole_supervisor(path: Path, retry_s: float) -> AsyncGenerator[None, None]:
    """Waits for the lock, and holds it. However the process ends, the kernel lets go of it."""
    file = _opened(path)
    try:
        # Not in a thread: one that is left behind could lock what has the number by then.
        while not _locked(file):  # noqa: ASYNC110 - other processes set no events
            await asyncio.sleep(retry_s)
        yield
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
