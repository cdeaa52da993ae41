"""The key store port: where API keys are kept."""

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.model.key_records import Key, KeyChanges
from services.page_tokens import Place


class KeyWriting(Protocol):
    """Changes keys; all of it or nothing. Transactions are serial over every process."""

    async def get(self, key_id: str) -> Key | None:
        """Returns a key."""
        ...

    async def verifier_of(self, gel_user: str) -> str:
        """Returns the SCRAM verifier of any key of a user of Gel; empty where there is none."""
        ...

    async def put(self, key: Key) -> None:
        """Adds or replaces a key."""
        ...

    async def remove(self, key_id: str) -> None:
        """Removes a key."""
        ...


class KeyStore(Protocol):
    """Keeps keys. Raises `Unavailable` when the store can't be reached."""

    async def get(self, key_id: str) -> Key | None:
        """Returns a key."""
        ...

    async def page(self, after: Place, limit: int) -> list[Key]:
        """Returns keys, newest first, those after a place."""
        ...

    async def stamp(self) -> int | None:
        """Returns a number that is another once anything was committed; None where nobody can
        tell. It costs next to nothing."""
        ...

    async def changes(self, after: int | None) -> KeyChanges:
        """Returns what changed after a sequence; everything for None, or where the store has not
        come so far."""
        ...

    def writing(self) -> AbstractAsyncContextManager[KeyWriting]:
        """Opens a transaction that writes; it commits at the end of the block."""
        ...
