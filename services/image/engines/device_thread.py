"""The one thread that owns a device: work waits for its turn, and leaves within a step."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.errors import Unavailable

T = TypeVar("T")


class Leaving(Exception):  # noqa: N818  (it is no error: somebody left)
    """The caller of some work has gone; it ends the work."""


class Presence:
    """Whether work is still wanted."""

    def __init__(self, closing: threading.Event) -> None:
        self._closing = closing
        self._left = threading.Event()

    def leave(self) -> None:
        """Nobody waits for the work any more."""
        self._left.set()

    def check(self) -> None:
        """Ends work that nobody wants. To be called between steps.

        Raises:
            Leaving: its caller has gone.
            Unavailable: the engine is closing.
        """
        if self._closing.is_set():
            raise closed()
        if self._left.is_set():
            raise Leaving

    def pause(self, seconds: float) -> None:
        """Waits, for less when the engine closes."""
        self._closing.wait(seconds)
        self.check()


class DeviceThread:
    """Runs work one piece at a time."""

    def __init__(self, name: str) -> None:
        self._closing = threading.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)

    async def run(self, work: Callable[[Presence], T]) -> T:
        """What the work returns, when its turn has come.

        Raises:
            Unavailable: the thread is closing or has ended.
        """
        presence = Presence(self._closing)
        if self._closing.is_set():
            raise closed()

        def perform() -> T:
            presence.check()
            return work(presence)

        try:
            done = self._executor.submit(perform)
        except RuntimeError:  # it was closed meanwhile
            raise closed() from None
        try:
            return await asyncio.wrap_future(done)
        except asyncio.CancelledError:
            presence.leave()
            raise

    async def close(self) -> None:
        """Fails what runs and waits; returns when the thread has ended."""
        self._closing.set()
        await asyncio.to_thread(self._executor.shutdown)


def closed() -> Unavailable:
    """What a call meets when the model goes."""
    return Unavailable("The model is being unloaded: try again.", retry_after_s=1.0)
