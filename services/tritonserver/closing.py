"""Ends what an engine has under way when it closes."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from services.errors import Unavailable

T = TypeVar("T")


class Closing:
    """Runs work until it is closed. To be used on one event loop."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    def check(self) -> None:
        """Raises `Unavailable` once it is closed."""
        if self._closed.is_set():
            raise Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What the work returns; it is cancelled when whoever waits leaves.

        Raises:
            Unavailable: it was closed, and the work cancelled.
        """
        task = asyncio.ensure_future(work)
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({task, closed}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                self.check()
            return task.result()
        finally:
            for one in (task, closed):
                one.cancel()

    def close(self) -> None:
        """Ends everything."""
        self._closed.set()
