"""Which keys there are, in memory, for this process and for those who watch.

The store is polled, since other processes may share it; changes made here are read at once. A
watcher has no queue but a position among the last changes: one that lags gets a fresh snapshot.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from policy.fed_keys import FedKeys
from services.errors import DomainError
from services.model.key_records import Key
from services.model.key_store import KeyStore
from services.model.watches import HEARTBEAT_S, POLL_S, ChangeFeed

_log = logging.getLogger(__name__)
_MAX_LAG = 1000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every key."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A key was added or changed."""

    key: Key


@dataclass(frozen=True, slots=True)
class Deleted:
    """A key was revoked."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed."""


KeyEvent = Snapshot | Changed | Deleted | Heartbeat


class KeyFeed:
    """Follows the store."""

    def __init__(self, store: KeyStore, *, max_lag: int = _MAX_LAG) -> None:
        self._store = store
        self._keys: dict[str, Key] = {}
        self._sequence: int | None = None
        self._feed = ChangeFeed()
        self._last: deque[str] = deque(maxlen=max_lag)
        """IDs of the last keys that changed; the newest is number `latest` of the feed."""
        self._turn = asyncio.Lock()
        self.book = FedKeys()
        """The keys as this process checks them."""

    async def refresh(self) -> None:
        """Reads what changed. Raises `Unavailable`."""
        async with self._turn:
            changes = await self._store.changes(self._sequence)
            if changes.whole:
                new = {key.id: key for key in changes.keys}
                gone = [key_id for key_id in self._keys if key_id not in new]
                concerned = [i for i, key in new.items() if self._keys.get(i) != key]
                self._keys = new
                self.book.replace(key.token() for key in new.values())
            else:
                gone = [key_id for key_id in changes.gone if self._keys.pop(key_id, None)]
                concerned = [key.id for key in changes.keys]
                for key in changes.keys:
                    self._keys[key.id] = key
                    self.book.put(key.token())
                for key_id in gone:
                    self.book.drop(key_id)
            self._sequence = changes.sequence
            self._last.extend([*concerned, *gone])
            self._feed.announce(self._feed.latest + len(concerned) + len(gone))

    async def announced(self) -> None:
        """Reads what this process changed, for who made a key wants to use it; where that fails,
        the next poll does it."""
        try:
            await self.refresh()
        except DomainError as error:
            _log.warning("a change of keys could not be read back yet: %s", error.message)

    async def run(self) -> None:
        """Follows the store until cancelled. While it does not answer, known keys stay."""
        well, seen = True, None
        while True:
            await asyncio.sleep(POLL_S)
            stamp = await self._store.stamp()
            if stamp is not None and stamp == seen:
                continue
            try:
                await self.refresh()
                well, seen = True, stamp
            except DomainError as error:
                if well:
                    _log.warning("keys could not be read, the known ones stay: %s", error.message)
                well = False

    async def watch(
        self, *, end: asyncio.Event, heartbeat_s: float = HEARTBEAT_S
    ) -> AsyncGenerator[KeyEvent, None]:
        """Streams a snapshot, then changes, until the end."""
        position = -1
        while not end.is_set():
            latest = self._feed.latest
            behind = latest - position
            if position < 0 or behind > len(self._last):
                yield Snapshot(tuple(self._keys.values()))
            else:
                newest = dict.fromkeys(list(self._last)[len(self._last) - behind :])
                for key_id in newest:
                    key = self._keys.get(key_id)
                    yield Deleted(key_id) if key is None else Changed(key)
            position = latest
            if not await self._feed.wait_until(position, heartbeat_s, end) and not end.is_set():
                yield Heartbeat()
