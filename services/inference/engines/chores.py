"""Work that an engine's thread does between two steps, for callers on the event loop."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """Some work, and who waits for it."""

    work: Callable[[], None]
    done: "asyncio.Future[None]"

    def perform(self) -> Exception | None:
        """Does it; returns what it raised."""
        try:
            self.work()
        except Exception as error:
            _log.exception("a probe, or a change of the adapters, failed")
            return error
        return None

    def answer(self, error: Exception | None) -> None:
        """Tells who waits. On the event loop's thread."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
