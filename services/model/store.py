"""The store port: where the catalogue is kept.

Both kinds of transaction see one consistent state from beginning to end. Writing transactions are
serial over every process that shares the store, so the catalogue's sequence numbers become visible
in their order, and what a transaction read stays true until it commits.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from services.model.records import (
    Change,
    Entry,
    ModelKind,
    Observation,
    Receipt,
    Reporter,
    Revision,
)


class Reading(Protocol):
    """Reads one consistent state."""

    async def sequence(self) -> int:
        """Returns the number of the last change."""
        ...

    async def floor(self) -> int:
        """Returns the oldest sequence since which every change is still known."""
        ...

    async def resolve(self, name: str) -> str | None:
        """Returns the ID of the model that has this ID or alias."""
        ...

    async def entries(
        self,
        *,
        ids: Sequence[str] | None = None,
        kinds: Sequence[ModelKind] = (),
        after: str = "",
        limit: int | None = None,
    ) -> list[Entry]:
        """Returns models in the order of their IDs, by code point, those after `after`."""
        ...

    async def revisions(self, model_id: str, *, below: int | None, limit: int) -> list[Revision]:
        """Returns revisions of a model, newest first, those with smaller numbers than `below`."""
        ...

    async def changes(self, after: int, limit: int) -> list[Change]:
        """Returns changes later than `after`, oldest first."""
        ...

    async def reporters(self) -> list[Reporter]:
        """Returns every process that reported and was not forgotten."""
        ...

    async def observations(self, reporters: Sequence[str]) -> list[Observation]:
        """Returns what these processes reported."""
        ...

    async def receipt(self, key: str) -> Receipt | None:
        """Returns what a repeatable call made."""
        ...


class Writing(Reading, Protocol):
    """Changes the state; all of it or nothing."""

    async def record(self, entry: Entry, now: datetime) -> int:
        """Counts a change of this model, made or about to be made, and returns its sequence."""
        ...

    async def put(self, entry: Entry) -> None:
        """Adds or replaces a model, its aliases and, where it is new, its revision."""
        ...

    async def remove(self, entry: Entry) -> None:
        """Removes a model and all that belongs to it."""
        ...

    async def next_revision(self, model_id: str) -> int:
        """Returns a number that no revision of this ID ever had, not even before a delete."""
        ...

    async def report(self, reporter: Reporter, observations: Sequence[Observation]) -> None:
        """Replaces what a process reported, all of it of revisions that exist."""
        ...

    async def forget(self, reporters: Sequence[str], *, keep_reporters: bool) -> None:
        """Drops what these processes reported, and unless told otherwise the processes too."""
        ...

    async def remember(self, receipt: Receipt) -> None:
        """Keeps what a repeatable call made."""
        ...

    async def compact(self, *, keep_changes: int, receipts_before: datetime) -> None:
        """Drops all but the last changes, and old receipts."""
        ...


class Store(Protocol):
    """Opens transactions.

    Raises `Unavailable` when the store can't be reached and `AlreadyExists` when a name is taken.
    """

    def reading(self) -> AbstractAsyncContextManager[Reading]:
        """Opens a transaction that reads."""
        ...

    def writing(self) -> AbstractAsyncContextManager[Writing]:
        """Opens a transaction that writes; it commits at the end of the block."""
        ...

    async def stamp(self) -> int | None:
        """Returns a number that is another once anything was committed; None where nobody can
        tell. It costs next to nothing."""
        ...

    async def aclose(self) -> None:
        """Closes every connection."""
        ...
