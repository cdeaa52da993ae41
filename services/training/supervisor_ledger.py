"""Brings what workers write into their journals into the store, each record once.

How far the store is stands in the job itself (`journal_offset`) and changes together with what the
records say. Whether a record repeats another, as after a crash, is told by the part of the journal
before it: so any process that has the job and its folder comes to the same.
"""

import asyncio
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

from services.training.folder import Ended, JobFolder, Record, job_folder
from services.training.job_names import checkpoint_model_id
from services.training.job_records import Checkpoint, Job, JobState, NewEvent
from services.training.job_store import JobStore
from services.training.journal import read_entries
from services.training.links import link_checkpoint, unlink_model
from services.training.supervisor_moves import Moved
from services.training.supervisor_news import Marks, News, read_news


class Ledger:
    """Keeps the store level with the journals."""

    def __init__(self, root: Path, store: JobStore) -> None:
        self._root = root
        self._store = store
        self._marks: dict[str, Marks] = {}

    def marks(self, job: Job) -> Marks:
        """What the part of the journal that is in the store has told."""
        return self._marks[job.id]

    def keep_only(self, ids: Container[str]) -> None:
        """Lets go of what is kept in memory of other jobs."""
        self._marks = {id: one for id, one in self._marks.items() if id in ids}

    async def catch_up(self, job: Job) -> tuple[Job, Ended | None, int]:
        """Brings all that is in the journal into the store.

        Stops before the end of the job's present worker: what that means is for the caller to
        decide, together with a change of the job's state.

        Returns:
            The job as it is now; the record of that end, if it is there; where that record ends.
        """
        folder = job_folder(self._root, job.id)
        marks = self._marks.get(job.id)
        if marks is None or marks.offset != job.journal_offset:
            marks = self._marks[job.id] = await asyncio.to_thread(_read_again, job, folder)
        while True:
            entries, end = await asyncio.to_thread(read_entries, folder.journal, marks.offset)
            if end == marks.offset:
                return job, None, end
            records, upto, ended = _until_end(entries, end, job.attempt)
            if ended is None or records:
                job = await self._apply(job, marks, records, upto)
                marks = self._marks[job.id]
            if ended is not None:
                return job, *ended

    async def _apply(self, job: Job, marks: Marks, records: Sequence[Record], end: int) -> Job:
        after = marks.copy()
        news = read_news(job, after, records)
        after.offset = end
        await self._follow(job, news)

        def change(now: Job) -> tuple[Job, Sequence[NewEvent], Sequence[Checkpoint]]:
            if now.state is not JobState.RUNNING or now.journal_offset != job.journal_offset:
                raise Moved
            return news.told(replace(now, journal_offset=end))

        job = await self._store.change(job.id, None, change)
        self._marks[job.id] = after
        return job

    async def _follow(self, job: Job, news: News) -> None:
        """Does what must be done before the store tells of it, and does no harm twice."""
        for step in sorted(news.dropped):
            await self._store.drop_checkpoint(job.id, step)
            name = checkpoint_model_id(job.model_id, step)
            await asyncio.to_thread(unlink_model, self._root, name)
        for step, checkpoint in sorted(news.checkpoints.items()):
            await asyncio.to_thread(link_checkpoint, self._root, job.id, step, checkpoint.model_id)


def _until_end(
    entries: Sequence[tuple[Record, int]], end: int, attempt: int
) -> tuple[list[Record], int, tuple[Ended, int] | None]:
    """Parts entries at the record with which the worker of an attempt ends.

    Returns:
        The records before it, where they end; itself, if there is one, and where it ends.
    """
    records: list[Record] = []
    upto = 0
    for record, after in entries:
        if isinstance(record, Ended) and record.attempt == attempt:
            return records, upto, (record, after)
        records.append(record)
        upto = after
    return records, end, None


def _read_again(job: Job, folder: JobFolder) -> Marks:
    """Reads what is in the store already, for what it has told."""
    marks = Marks()
    while marks.offset < job.journal_offset:
        entries, end = read_entries(folder.journal, marks.offset)
        if end <= marks.offset:
            break  # a machine that lost its power has forgotten some
        known = [record for record, after in entries if after <= job.journal_offset]
        read_news(job, marks, known)
        marks.offset = min(end, job.journal_offset)
    marks.offset = job.journal_offset
    return marks
