"""The loop between the catalogue and this process: hears what is wanted, tells what there is.

While the catalogue is away, what is served stays served, and both sides are tried again.
"""

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from policy.cancelling import heed_cancellation
from services.serving.backoff import Backoff
from services.serving.catalogue import Catalogue
from services.serving.deployments import Deployments
from services.serving.models import Served
from services.serving.slots import in_words

S = TypeVar("S", bound=Served[Any])

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """How the loop behaves."""

    silence_s: float = 45.0
    """Silence after which the watch is taken for dead."""
    reconnect_least_s: float = 0.1
    reconnect_most_s: float = 2.0
    report_interval_s: float = 10.0
    """Until the catalogue names another."""
    report_pause_s: float = 0.05
    """Least time between two reports: changes within it travel together."""

    def backoff(self) -> Backoff:
        """Waits between attempts."""
        return Backoff(self.reconnect_least_s, self.reconnect_most_s)


class ControlLoop(Generic[S]):
    """Connects deployments to a catalogue."""

    def __init__(
        self,
        catalogue: Catalogue[S],
        deployments: Deployments[S],
        settings: ControlSettings | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._deployments = deployments
        self._settings = settings or ControlSettings()
        self._lost = False

    async def run(self) -> None:
        """Watches, reconciles and reports until cancelled; then frees every model."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(), name="catalogue-watch")
                tasks.create_task(self._report(), name="catalogue-report")
        finally:
            await self._deployments.close()

    async def _watch(self) -> None:
        after = 0
        backoff = self._settings.backoff()
        while True:
            try:
                async with aclosing(self._catalogue.watch(after)) as events:
                    while True:
                        async with asyncio.timeout(self._settings.silence_s):
                            event = await anext(events, None)
                        if event is None:
                            break
                        self._found()
                        backoff.reset()
                        after = event.sequence
                        self._deployments.apply(event)
            except Exception as error:
                # Whoever answers next may be another process with another past: take a snapshot.
                after = 0
                self._lose(error)
            heed_cancellation()
            await asyncio.sleep(backoff.next())

    async def _report(self) -> None:
        interval = self._settings.report_interval_s
        backoff = self._settings.backoff()
        changed = self._deployments.changed
        complaint = ""
        while True:
            try:
                async with asyncio.timeout(interval):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()
            try:
                interval = await self._catalogue.report(self._deployments.observations())
                backoff.reset()
                complaint = ""
                await asyncio.sleep(self._settings.report_pause_s)
            except Exception as error:
                heed_cancellation()
                words = in_words(error)
                if words != complaint and not self._lost:
                    _log.warning("The catalogue did not take a report: %s", words)
                complaint = words
                changed.set()
                await asyncio.sleep(backoff.next())

    def _lose(self, error: Exception) -> None:
        if not self._lost:
            _log.warning("The catalogue can't be reached: %s", in_words(error))
        self._lost = True

    def _found(self) -> None:
        if self._lost:
            _log.info("The catalogue is back.")
            # It may have forgotten what it was told.
            self._deployments.changed.set()
        self._lost = False
