"""Watching a job: as it is, then what happens to it, until it has ended.

A watcher has no queue. It knows the number of the last event that it told, and reads on when woken:
so it misses nothing, tells nothing twice, and a slow reader costs nothing.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Generator
from contextvars import Context
from dataclasses import dataclass, replace

from services.errors import DomainError, InvalidArgument, NotFound, QueueFull
from services.training.job_records import ENDED, Job, JobEvent
from services.training.job_store import JobStore
from services.training.records import Caller

_log = logging.getLogger(__name__)
_AT_ONCE = 100
_BEYOND = 2**62
"""A number that no event has."""


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The job as it is."""

    job: Job


@dataclass(frozen=True, slots=True)
class Happened:
    """Something happened."""

    event: JobEvent


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing happened for a while."""

    silence_s: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The job has ended; nothing follows."""

    job: Job


WatchEvent = JobSeen | Happened | Heartbeat | Finished


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """How watching goes."""

    heartbeat_s: float = 15.0
    """Silence after which a heartbeat is sent."""
    poll_s: float = 1.0
    """Time between looks for what other processes have changed."""
    max_watches: int = 1000
    """Beyond that they are turned away."""


class _Watcher:
    """Somebody who waits for a change of a job."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.revision = 0
        """The one that was read last."""
        self.woken = asyncio.Event()


class Watches:
    """Streams jobs to any number of watchers."""

    def __init__(self, store: JobStore, limits: WatchLimits | None = None) -> None:
        self._store = store
        self._limits = limits or WatchLimits()
        self._watchers = set[_Watcher]()
        self._polling: asyncio.Task[None] | None = None
        store.listen(self._announce)

    async def close(self) -> None:
        """Ends what runs beside the watches."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def watch(
        self,
        id: str,
        caller: Caller,
        *,
        resume_after: str = "",
        from_start: bool = False,
        end: asyncio.Event | None = None,
    ) -> AsyncGenerator[WatchEvent, None]:
        """Streams the job, then what happens: from the start, after the event `resume_after`, or
        from now on. Ends with `Finished`; without it where `end` was set before.

        Raises:
            NotFound: there is no such job.
            InvalidArgument: it has no such event.
            QueueFull: too many watch already.
        """
        end = end or asyncio.Event()
        with self._one_more(id) as watcher:
            number = 0 if from_start else await self._place(id, caller, resume_after)
            told: Job | None = None
            silent_since = 0.0
            while not end.is_set():
                watcher.woken.clear()
                look = await self._store.look(
                    id,
                    caller.sees,
                    after_number=_BEYOND if number is None else number,
                    most=_AT_ONCE,
                )
                number = look.last_number if number is None else number
                if told is None:
                    told = look.job
                    yield JobSeen(look.job)
                    silent_since = _now()
                for event in look.events:
                    yield Happened(event)
                    number = event.number
                    silent_since = _now()
                if number < look.last_number:
                    continue
                if look.job.state in ENDED:
                    yield Finished(look.job)
                    return
                if _shown(told) != _shown(look.job):
                    told = look.job
                    yield JobSeen(look.job)
                    silent_since = _now()
                watcher.revision = look.revision
                rest_s = silent_since + self._limits.heartbeat_s - _now()
                if not await _woken(watcher, rest_s, end) and not end.is_set():
                    yield Heartbeat(_now() - silent_since)
                    silent_since = _now()

    async def _place(self, id: str, caller: Caller, resume_after: str) -> int | None:
        """Returns the number after which to begin; None for what happens from now on."""
        if not resume_after:
            return None
        # Where there is no such job, that is what is told.
        await self._store.job(id, caller.sees)
        try:
            return (await self._store.event(id, caller.sees, resume_after)).number
        except NotFound as error:
            raise InvalidArgument(
                f"'resume_after': {error.message}", field="resume_after"
            ) from error

    @contextlib.contextmanager
    def _one_more(self, job_id: str) -> Generator[_Watcher]:
        """Counts a watcher, and has it woken."""
        if len(self._watchers) >= self._limits.max_watches:
            raise QueueFull(
                "Too many jobs are being watched. Try again, or ask for the job itself."
            )
        watcher = _Watcher(job_id)
        self._watchers.add(watcher)
        if self._polling is None or self._polling.done():
            # In a context of its own: it serves no call.
            self._polling = asyncio.create_task(self._poll(), context=Context())
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    def _announce(self, job_id: str) -> None:
        for watcher in self._watchers:
            if watcher.job_id == job_id:
                watcher.woken.set()

    async def _poll(self) -> None:
        """Wakes those whose job was changed by another process, while anybody watches."""
        while True:
            await asyncio.sleep(self._limits.poll_s)
            if not self._watchers:
                return
            try:
                ids = sorted({watcher.job_id for watcher in self._watchers})
                revisions = await self._store.revisions(ids)
            except DomainError as error:
                _log.warning("jobs that are watched could not be looked at: %s", error.message)
                continue
            except Exception:
                # Watchers depend on this loop: what nobody thought of must not end it.
                _log.exception("jobs that are watched could not be looked at")
                continue
            for watcher in self._watchers:
                if revisions.get(watcher.job_id) != watcher.revision:
                    watcher.woken.set()


async def _woken(watcher: _Watcher, timeout_s: float, end: asyncio.Event) -> bool:
    """Waits until the job has changed, or for the end, or so long. Tells whether it has changed."""
    waits = [asyncio.ensure_future(event.wait()) for event in (watcher.woken, end)]
    try:
        await asyncio.wait(waits, timeout=max(timeout_s, 0.0), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
    return watcher.woken.is_set()


def _shown(job: Job) -> Job:
    """Returns what callers see of a job, but for its update time."""
    return replace(job, update_time=job.create_time, journal_offset=0, attempt=0)


def _now() -> float:
    return asyncio.get_running_loop().time()
