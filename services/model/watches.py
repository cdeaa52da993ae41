"""Watching the catalogue: a snapshot, then changes.

A watcher has no queue. It has a position in the change log, and reads on when woken; what changed
several times meanwhile comes once, as it is now. A watcher that lags too far behind, or resumes
from a position that is no longer known, gets a fresh snapshot. So a slow reader costs nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from services.errors import DomainError, ModelNotFound
from services.model.catalog import Catalog
from services.model.records import Change, Model, ModelKind, ModelState
from services.model.reports import Reports
from services.model.states import outcome

_log = logging.getLogger(__name__)
MAX_LAG = 1000
"""Changes after which a snapshot takes less than telling them."""
HEARTBEAT_S = 15.0
POLL_S = 0.25
SWEEP_S = 1.0
COMPACT_S = 60.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is wanted."""

    sequence: int
    models: Sequence[Model]


@dataclass(frozen=True, slots=True)
class Changed:
    """A model was added or changed."""

    sequence: int
    model: Model


@dataclass(frozen=True, slots=True)
class Deleted:
    """A model is no longer wanted."""

    sequence: int
    model_id: str


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed."""

    sequence: int


WatchEvent = Snapshot | Changed | Deleted | Heartbeat


class ChangeFeed:
    """Knows the last sequence, and wakes those who wait for a later one.

    Changes made by this process are announced; those of others are found by polling.
    """

    def __init__(self) -> None:
        self.latest = 0
        self._advanced = asyncio.Event()

    def announce(self, sequence: int) -> None:
        """Takes note that the catalogue has reached this sequence."""
        if sequence > self.latest:
            self.latest = sequence
            self._advanced.set()
            self._advanced = asyncio.Event()

    async def wait(self, after: int, timeout_s: float) -> bool:
        """Waits until the catalogue is past `after`; False when that took too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self.latest <= after:
                    await self._advanced.wait()
        return self.latest > after

    async def wait_until(self, after: int, timeout_s: float, end: asyncio.Event) -> bool:
        """Waits as `wait` does, but no longer than until the end."""
        tasks = [
            asyncio.ensure_future(self.wait(after, timeout_s)),
            asyncio.ensure_future(end.wait()),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
        return self.latest > after


class Watches:
    """Streams the catalogue to any number of watchers."""

    def __init__(
        self,
        catalog: Catalog,
        feed: ChangeFeed,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        max_lag: int = MAX_LAG,
    ) -> None:
        self._catalog = catalog
        self._feed = feed
        self._heartbeat_s = heartbeat_s
        self._max_lag = max_lag

    async def watch(
        self,
        kinds: Sequence[ModelKind] = (),
        resume_sequence: int = 0,
        *,
        end: asyncio.Event | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Streams a snapshot, or the changes since `resume_sequence`, then changes, until the end.

        It ends between two words only: a word that is on its way to the watcher arrives.
        """
        end = end or asyncio.Event()
        position: int | None = resume_sequence or None
        silent_since = _now()
        while not end.is_set():
            events, position = await self._read(kinds, position)
            for event in events:
                yield event
                silent_since = _now()
            remaining = silent_since + self._heartbeat_s - _now()
            changed = await self._feed.wait_until(position, max(remaining, 0.0), end)
            if not changed and not end.is_set():
                yield Heartbeat(position)
                silent_since = _now()

    async def settled(self, model_id: str, uid: str, revision: int, timeout_s: float) -> Model:
        """Waits until a revision is ready, failed or no longer wanted; raises `TimeoutError`."""
        async with asyncio.timeout(timeout_s):
            while True:
                position = self._feed.latest
                model = await self._catalog.get(model_id)
                if model.entry.uid != uid:
                    raise ModelNotFound(f"{model_id!r} was deleted while it was loading.")
                replaced = model.entry.revision.number != revision or model.entry.stopped
                if replaced or outcome(model, revision) is not ModelState.DEPLOYING:
                    return model
                # Time alone changes states too: look again now and then.
                await self._feed.wait(position, SWEEP_S)

    async def _read(
        self, kinds: Sequence[ModelKind], position: int | None
    ) -> tuple[list[WatchEvent], int]:
        """Reads what happened since `position`: events and the position after them."""
        async with self._catalog.store.reading() as tx:
            last = await tx.sequence()
            if position == last:
                return [], last
            changes: list[Change] = []
            if position is not None and await tx.floor() <= position < last:
                changes = await tx.changes(position, self._max_lag + 1)
            if not 0 < len(changes) <= self._max_lag:
                entries = await tx.entries(kinds=kinds)
                models = [self._catalog.view(entry) for entry in entries if not entry.stopped]
                return [Snapshot(last, models)], last
            # The last change of each model is the one that is told.
            newest = {change.model_id: change.sequence for change in changes}
            entries = await tx.entries(ids=sorted(newest))
        wanted = {e.id: e for e in entries if not e.stopped and (not kinds or e.kind in kinds)}
        concerned = {c.model_id for c in changes if not kinds or c.kind in kinds}
        events: list[WatchEvent] = []
        for model_id, sequence in sorted(newest.items(), key=lambda item: item[1]):
            if model_id in wanted:
                events.append(Changed(sequence, self._catalog.view(wanted[model_id])))
            elif model_id in concerned:
                events.append(Deleted(sequence, model_id))
        return events, last


async def keep(
    catalog: Catalog,
    reports: Reports,
    feed: ChangeFeed,
    *,
    tell: Callable[[bool], None] = lambda _: None,
) -> None:
    """Keeps the feed and the catalogue up to date, until cancelled.

    Tells when the catalogue can't be reached, and when it can again.
    """
    well, seen = True, None
    silence, compacted = catalog.clock(), _now()
    while True:
        await asyncio.sleep(POLL_S)
        try:
            stamp = await catalog.store.stamp()
            if stamp is None or stamp != seen:
                async with catalog.store.reading() as tx:
                    sequence = await tx.sequence()
                feed.announce(sequence)
                seen = stamp
            if catalog.clock() >= silence:
                silence = await reports.sweep()
            if _now() - compacted >= COMPACT_S:
                compacted = _now()
                await reports.compact()
                silence = catalog.clock()  # clocks are set back at times
            found = True
        except DomainError as error:
            _log.warning("the catalogue could not be kept up to date: %s", error.message)
            found = False
            await asyncio.sleep(SWEEP_S)
        except Exception:
            # Watchers depend on this loop: what nobody thought of must not end it.
            _log.exception("the catalogue could not be kept up to date")
            found = False
            await asyncio.sleep(SWEEP_S)
        if found != well:
            well = found
            tell(well)


def _now() -> float:
    return asyncio.get_running_loop().time()
