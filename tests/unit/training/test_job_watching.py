"""Watching jobs, with a store in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.errors import NotFound, Unavailable
from services.training.clock import utc_now
from services.training.job_names import new_job_id, result_id
from services.training.job_records import DataSource, Job, JobSpec, JobState, Level, NewEvent
from services.training.records import Caller
from services.training.stores import Store, open_store
from services.training.watching import (
    Finished,
    Happened,
    Heartbeat,
    JobSeen,
    Watches,
    WatchEvent,
    WatchLimits,
)

ME = Caller("me")
SLOW = WatchLimits(heartbeat_s=3600, poll_s=3600)
"""Nothing happens by itself."""


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = await open_store(f"sqlite:///{tmp_path}/training.db")
    yield store
    await store.close()


async def created(store: Store) -> Job:
    now = utc_now()
    return await store.jobs.create(
        Job(
            new_job_id(),
            "me",
            JobSpec("base", DataSource(dataset="lines"), seed=1),
            JobState.VALIDATING_FILES,
            result_id("base", "local", ""),
            now,
            now,
        )
    )


async def tell(store: Store, job: Job, *words: str, **facts: Any) -> None:
    events = [NewEvent(Level.INFO, text) for text in words]
    await store.jobs.change(job.id, None, lambda job: (replace(job, **facts), events, ()))


def seen(event: WatchEvent) -> Any:
    """A word of a watch, in short."""
    match event:
        case JobSeen(job):
            return job.step
        case Happened(happened):
            return happened.message
        case Finished(job):
            return job.state
        case Heartbeat():
            return None


async def test_a_reader_who_is_slow_misses_nothing(store: Store) -> None:
    """Far more happens between two words than is read at once."""
    job = await created(store)
    watches = Watches(store.jobs, SLOW)
    told: list[Any] = []
    async with aclosing(watches.watch(job.id, ME)) as events:
        told.append(seen(await anext(events)))
        wanted: list[str] = []
        for number in range(5):
            words = [f"{number}.{part}" for part in range(90)]
            wanted += words
            await tell(store, job, *words, step=number + 1)
            told.append(seen(await anext(events)))
        await tell(store, job, state=JobState.CANCELLED)
        told += [seen(event) async for event in events]
    assert [word for word in told if isinstance(word, str) and "." in word] == wanted
    assert told[-1] is JobState.CANCELLED
    assert next(word for word in told if isinstance(word, int)) == 0
    await watches.close()


async def test_what_changes_without_an_event_is_told(store: Store) -> None:
    job = await created(store)
    watches = Watches(store.jobs, SLOW)
    async with aclosing(watches.watch(job.id, ME)) as events:
        assert seen(await anext(events)) == 0
        following = asyncio.ensure_future(anext(events))
        await tell(store, job, step=3)
        assert seen(await following) == 3
        following = asyncio.ensure_future(anext(events))
        # Where the journal was read to is nobody's business.
        await tell(store, job, journal_offset=7)
        await tell(store, job, "done")
        assert seen(await following) == "done"
        following = asyncio.ensure_future(anext(events))
        await tell(store, job, step=4)
        assert seen(await following) == 4
        following.cancel()
    await watches.close()


async def test_many_watch_the_same(store: Store) -> None:
    jobs = [await created(store) for _ in range(2)]
    watches = Watches(store.jobs, SLOW)

    async def all_of(job: Job) -> list[Any]:
        return [seen(event) async for event in watches.watch(job.id, ME, from_start=True)]

    watching = [asyncio.create_task(all_of(jobs[number % 2])) for number in range(6)]
    for number, job in enumerate(jobs):
        await tell(store, job, f"to {number}")
        await tell(store, job, f"bye {number}", state=JobState.FAILED)
    for number, told in enumerate(await asyncio.gather(*watching)):
        words = [word for word in told if isinstance(word, str)]
        created_word, *rest = words
        assert created_word.startswith("Created the job")
        assert rest == [f"to {number % 2}", f"bye {number % 2}", JobState.FAILED]
    await watches.close()


async def test_the_end_is_between_two_words(store: Store) -> None:
    job = await created(store)
    watches, end = Watches(store.jobs, SLOW), asyncio.Event()
    told: list[Any] = []
    async for event in watches.watch(job.id, ME, from_start=True, end=end):
        told.append(event)
        end.set()
    assert [type(event) for event in told] == [JobSeen, Happened]
    await watches.close()


async def test_a_store_that_fails_for_a_while_ends_no_other_watch(store: Store) -> None:
    """What other processes do is looked for again and again."""
    job = await created(store)
    other = await open_store(str(store.database._engine.url))

    class Failing:
        failures = 3

        def __getattr__(self, name: str) -> Any:
            return getattr(store.jobs, name)

        async def revisions(self, ids: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise (Unavailable("away") if self.failures % 2 else RuntimeError("bug"))
            return await store.jobs.revisions(ids)

    watches = Watches(Failing(), WatchLimits(heartbeat_s=3600, poll_s=0.01))  # type: ignore[arg-type]
    async with aclosing(watches.watch(job.id, ME)) as events:
        await anext(events)
        following = asyncio.ensure_future(anext(events))
        await other.jobs.change(
            job.id, None, lambda job: (job, [NewEvent(Level.INFO, "elsewhere")], ())
        )
        assert seen(await following) == "elsewhere"
    await watches.close()
    await other.close()


async def test_who_does_not_see_a_job_does_not_watch_it(store: Store) -> None:
    job = await created(store)
    watches = Watches(store.jobs, SLOW)
    for id, caller in ((job.id, Caller("you")), (new_job_id(), Caller("x", is_admin=True))):
        with pytest.raises(NotFound):
            await anext(watches.watch(id, caller))
    async with aclosing(watches.watch(job.id, Caller("x", is_admin=True))) as events:
        assert seen(await anext(events)) == 0
    assert not watches._watchers
    await watches.close()
