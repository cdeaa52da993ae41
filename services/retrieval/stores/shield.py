"""Calls that run to their end even when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import CoroutineType
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Shield:
    """Keeps cancelled calls from breaking off in the middle of a statement.

    SQLite runs a statement in a thread, which goes on after the caller left: a connection that is
    given up meanwhile would keep its lock on the file. And asyncpg misses being cancelled while it
    sends many rows, and hangs. Such calls are short, so they are let finish.
    """

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def around(
        self, method: Callable[_P, CoroutineType[Any, Any, _T]]
    ) -> Callable[_P, CoroutineType[Any, Any, _T]]:
        """Returns the method so protected."""

        async def shielded(*args: _P.args, **kwargs: _P.kwargs) -> _T:
            task = asyncio.create_task(method(*args, **kwargs))
            self._running.add(task)
            task.add_done_callback(self._ended)
            return await asyncio.shield(task)

        return shielded

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # where nobody waits any more, nobody misses it

    async def finish(self) -> None:
        """Waits for all that run."""
        await asyncio.gather(*self._running, return_exceptions=True)
