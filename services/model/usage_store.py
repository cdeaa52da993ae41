"""The usage store port: where the ledger is kept."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from services.model.usage_records import Filter, Group, Total, Usage
from services.page_tokens import Place


class UsageStore(Protocol):
    """Keeps records. Raises `Unavailable` when the store can't be reached."""

    async def add(self, records: Sequence[Usage]) -> None:
        """Adds records, all or none; those whose ID is there already stay as they are."""
        ...

    async def find(self, wanted: Filter, after: Place, limit: int) -> list[Usage]:
        """Returns records, newest first, those after a place."""
        ...

    async def total(self, wanted: Filter, groups: Sequence[Group], limit: int) -> list[Total]:
        """Returns sums, in the order of what they are grouped by."""
        ...

    async def drop(self, before: datetime, limit: int) -> int:
        """Removes records that began before a time, and returns how many; at most so many."""
        ...
