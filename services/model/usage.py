"""The usage ledger: one record of each request, kept once however often it is told."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services import page_tokens
from services.errors import InvalidArgument
from services.model.catalog import utc_now
from services.model.usage_records import Filter, Group, Total, Usage
from services.model.usage_store import UsageStore
from services.page_tokens import Place

DEFAULT_PAGE_SIZE: Final = 100
MAX_PAGE_SIZE: Final = 10_000
MAX_TOTALS: Final = 10_000
_DROPPED_AT_ONCE: Final = 10_000
_DROP_EVERY_S: Final = 3600.0
_TRY_AGAIN_S: Final = 60.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Some records, and the token of the page after them."""

    items: list[Usage]
    next_page_token: str


class UsageLedger:
    """Keeps records, shows them and sums them."""

    def __init__(
        self,
        store: UsageStore,
        *,
        retention: timedelta | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """Takes where records are kept, and for how long. None: for ever."""
        self._store = store
        self._retention = retention
        self._clock = clock

    async def record(self, records: Sequence[Usage]) -> None:
        """Keeps records; those that are there already stay as they are."""
        await self._store.add(records)

    async def page(self, wanted: Filter, *, page_size: int, page_token: str) -> UsagePage:
        """Returns a page of records, newest first."""
        query = _query(wanted)
        after = page_tokens.decode(page_token, query)
        if after.id and after.time is None:
            raise page_tokens.no_token()
        size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        found = await self._store.find(wanted, after, size + 1)
        token = ""
        if len(found) > size:
            last = found[size - 1]
            token = page_tokens.encode(Place(last.id, last.start_time), query)
        return UsagePage(found[:size], token)

    async def total(self, wanted: Filter, groups: Sequence[Group]) -> list[Total]:
        """Returns sums, at most `MAX_TOTALS`.

        Raises:
            InvalidArgument: there are more, or they are asked for by day and by month.
        """
        if {Group.DAY, Group.MONTH} <= set(groups):
            raise InvalidArgument(
                "'group_by': a sum is of a day or of a month; name one of them.", field="group_by"
            )
        found = await self._store.total(wanted, groups, MAX_TOTALS + 1)
        if len(found) > MAX_TOTALS:
            raise InvalidArgument(
                f"'group_by': these are more than {MAX_TOTALS} sums. Ask for a shorter time, or "
                "group by less.",
                field="group_by",
            )
        return found

    async def keep(self) -> None:
        """Removes what is older than the retention, now and then, until it is cancelled."""
        while self._retention is not None:
            try:
                dropped = await self.drop_old()
            except Exception as error:
                _log.error("old records of the usage ledger could not be removed", exc_info=error)
                await asyncio.sleep(_TRY_AGAIN_S)
                continue
            if dropped:
                _log.info("%d old records were removed from the usage ledger", dropped)
            await asyncio.sleep(_DROP_EVERY_S)

    async def drop_old(self) -> int:
        """Removes what is older than the retention, and returns how many records that were."""
        if self._retention is None:
            return 0
        before = self._clock() - self._retention
        total = 0
        while dropped := await self._store.drop(before, _DROPPED_AT_ONCE):
            total += dropped
        return total


def _query(wanted: Filter) -> list[str]:
    """What tells lists apart, for page tokens."""
    times = (wanted.start_time, wanted.end_time)
    return [
        "usage",
        *(wanted.principal, wanted.model, wanted.dialect, wanted.request_id),
        *("" if time is None else time.isoformat() for time in times),
    ]
