"""Delivery: records go from the files of this and of dead processes to the ledger, for ever."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from policy.cancelling import heed_cancellation
from services.errors import DomainError, InvalidArgument
from services.serving.backoff import Backoff
from services.usage.journal import Journal, discard, segments, set_aside, taken
from services.usage.records import Record, to_line

MOST_RECORDS: Final = 1000
"""Of one batch."""
_LEAST_WAIT_S: Final = 0.25
_MOST_WAIT_S: Final = 30.0
_COMPLAIN_S: Final = 60.0

Deliver = Callable[[Sequence[Record]], Awaitable[None]]
"""Tells the ledger. Raises a `DomainError`; `InvalidArgument` where it won't ever take them."""

_log = logging.getLogger(__name__)


class Delivery:
    """Sends what the journals of a folder hold, and deletes what the ledger has.

    The ledger keeps what it is told twice once. So a batch is sent again whenever it is not certain
    that it arrived, and where two processes send the same, nothing is wrong.
    """

    def __init__(
        self,
        journal: Journal,
        deliver: Deliver,
        *,
        gather_s: float = 0.25,
        sweep_s: float = 30.0,
    ) -> None:
        """Prepares to send.

        Args:
            journal: of this process.
            deliver: tells the ledger.
            gather_s: how long records come together before they are sent.
            sweep_s: how often files of processes that died are looked for.
        """
        self._journal = journal
        self._deliver = deliver
        self._gather_s = gather_s
        self._sweep_s = sweep_s
        self._backoff = Backoff(_LEAST_WAIT_S, _MOST_WAIT_S)
        self._complained = float("-inf")
        self._news = asyncio.Event()
        journal.stirred = self._news.set

    async def run(self) -> None:
        """Sends until it is cancelled."""
        while True:
            try:
                await self.send_all()
            except Exception as error:
                heed_cancellation()
                self._complain(error)
                await asyncio.sleep(self._backoff.next())
                continue
            self._backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._sweep_s):
                    await self._news.wait()
            await asyncio.sleep(self._gather_s)

    async def finish(self, within_s: float) -> None:
        """Sends what there is, for so long; the rest waits for the next process."""
        try:
            async with asyncio.timeout(within_s):
                await self.send_all()
        except Exception as error:
            _log.info("usage stays on the disk for now: %s", error)

    async def send_all(self) -> None:
        """Sends all that was written before. Raises what `deliver` raises."""
        self._news.clear()
        folder = self._journal.folder
        try:
            for path in segments(folder):
                await self._send(path)
            # Not before: while the ledger is away, files grow instead of becoming many.
            if self._journal.rotate():
                for path in segments(folder):
                    await self._send(path)
        finally:
            self._journal.measure()

    async def _send(self, path: Path) -> None:
        with taken(path) as segment:
            if segment is None:
                return
            for start in range(0, len(segment.records), MOST_RECORDS):
                await self._tell(path, segment.records[start : start + MOST_RECORDS])
            for line in segment.broken:
                _log.error("%s has a line that is no record, which is set aside", path.name)
                set_aside(path, line)
            discard(path)

    async def _tell(self, path: Path, records: Sequence[Record]) -> None:
        try:
            await self._deliver(records)
        except InvalidArgument as error:
            if len(records) > 1:
                # One among them is at fault, and must not keep the others waiting for ever.
                middle = len(records) // 2
                await self._tell(path, records[:middle])
                await self._tell(path, records[middle:])
                return
            _log.error("the ledger refuses a record, which is set aside: %s", error.message)
            set_aside(path, to_line(records[0]).rstrip())

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._complained < _COMPLAIN_S:
            return
        self._complained = now
        known = isinstance(error, DomainError)
        _log.warning(
            "usage waits in %s, for the ledger does not take it: %s",
            self._journal.folder,
            error,
            exc_info=None if known else error,
        )
