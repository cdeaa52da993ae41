"""Calls and transactions that run to their end even when nobody waits any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
            return await asyncio.shield(self._start(method(*args, **kwargs)))

        return shielded

    @asynccontextmanager
    async def holding(
        self, context: AbstractAsyncContextManager[_T]
    ) -> AsyncGenerator[tuple[_T, Shield], None]:
        """Enters a context, such as a transaction, and leaves it once no call in it runs any more.

        A caller that is cancelled leaves at once; the context learns of it after the last call.

        Returns:
            What the context gives, and the shield that calls within have to be made through.
        """
        entering = self._start(_enter(context))
        try:
            value = await asyncio.shield(entering)
        except asyncio.CancelledError as error:
            self._start(_abandon(entering, context, error))
            raise
        calls = Shield()
        try:
            yield value, calls
        except (asyncio.CancelledError, GeneratorExit) as error:
            self._start(_leave(calls, context, error))
            raise
        except Exception as error:
            if not await asyncio.shield(self._start(_leave(calls, context, error))):
                raise
        else:
            await asyncio.shield(self._start(_leave(calls, context, None)))

    async def finish(self) -> None:
        """Waits for all that run."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # where nobody waits any more, nobody misses it


async def _enter(context: AbstractAsyncContextManager[_T]) -> _T:
    return await context.__aenter__()


async def _leave(
    calls: Shield, context: AbstractAsyncContextManager[Any], error: BaseException | None
) -> bool | None:
    await calls.finish()
    return await context.__aexit__(
        None if error is None else type(error), error, error and error.__traceback__
    )


async def _abandon(
    entering: asyncio.Task[Any], context: AbstractAsyncContextManager[Any], error: BaseException
) -> None:
    """Leaves a context that nobody waits for any more, if it could be entered."""
    await entering
    await context.__aexit__(type(error), error, error.__traceback__)
