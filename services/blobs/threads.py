"""Threads for work that blocks, and what its errors mean to callers."""

import asyncio
import errno
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from services.errors import DomainError, NotFound, StorageFull, Unavailable

_log = logging.getLogger(__name__)
_WORKERS = 16
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REMOTE = frozenset({"aiobotocore", "aiohttp", "botocore", "s3fs"})
"""Libraries whose exceptions tell of the network or of the other side."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads:
    """Runs blocking calls, some at a time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(_WORKERS, "blobs")

    async def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Calls a function. It runs on where the caller is cancelled: what it works on has to be
        guarded by a lock.

        Raises:
            NotFound: there is no such file.
            StorageFull: there is no room.
            Unavailable: any other trouble with what keeps the blobs.
        """
        call = asyncio.wrap_future(self._pool.submit(function, *args, **kwargs))
        call.add_done_callback(_looked_at)
        try:
            return await asyncio.shield(call)
        except Exception as error:
            told = _told(error)
            if told is None:
                raise
            raise told from error

    async def close(self) -> None:
        """Waits for what runs."""
        await asyncio.to_thread(self._pool.shutdown)


def _looked_at(call: asyncio.Future[_T]) -> None:
    """Keeps asyncio from complaining where nobody waits any more."""
    if not call.cancelled():
        call.exception()


def _told(error: Exception) -> DomainError | None:
    """Returns what callers learn of an exception; None where it is a mistake of ours."""
    if isinstance(error, FileNotFoundError):
        return NotFound("There is no such blob.")
    if isinstance(error, OSError) and error.errno in _FULL:
        _log.error("there is no room left for files", exc_info=error)
        return StorageFull(
            "The disk that files are kept on is full, or its quota is used up. Delete files, or "
            "have the operator make room."
        )
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _REMOTE:
        _log.error("the storage of files failed", exc_info=error)
        return Unavailable("The storage of files does not answer. Try again.", retry_after_s=1)
    return None
