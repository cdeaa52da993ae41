"""Supervisor and keeper with nothing to do ask SQLite for nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.sql import database
from services.training.batch_keeper import BatchKeeper
from services.training.job_records import JobState
from tests.integration.training.supervised import Workshop, workshop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Workshop]:
    async with workshop(tmp_path) as made:
        yield made


class Counts:
    """Counts looks at stamps, and transactions."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transactions = 0
        self._looks: asyncio.Queue[None] = asyncio.Queue()
        plainly = database.transaction

        def counted(*args, **kwargs):
            self.transactions += 1
            return plainly(*args, **kwargs)

        monkeypatch.setattr(database, "transaction", counted)

    def count(self, store) -> None:
        """Counts the looks at this store."""
        stamp = store.stamp

        async def looked() -> int | None:
            self._looks.put_nowait(None)
            return await stamp()

        store.stamp = looked

    async def looked(self, times: int) -> None:
        while not self._looks.empty():
            self._looks.get_nowait()
        for _ in range(times):
            await asyncio.wait_for(self._looks.get(), 60)


@contextlib.asynccontextmanager
async def beside(work) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_supervisor_without_jobs_only_looks(shop, monkeypatch):
    counts = Counts(monkeypatch)
    counts.count(shop.store.jobs)
    async with shop.supervised(interval_s=0.01):
        await counts.looked(5)
        before = counts.transactions
        await counts.looked(20)
        assert counts.transactions == before
        job = await shop.until_ended(await shop.start())
        assert job.state is JobState.SUCCEEDED
        await counts.looked(5)
        before = counts.transactions
        await counts.looked(20)
        assert counts.transactions == before


async def test_a_keeper_without_batches_looks_at_the_store_now_and_then(shop, monkeypatch):
    counts = Counts(monkeypatch)
    counts.count(shop.store.batches)
    keeper = BatchKeeper(shop.store.batches, shop.results, shop.blobs, interval_s=0.01)
    async with beside(keeper.run()):
        await counts.looked(10)
        before = counts.transactions
        await counts.looked(200)
    looks = (counts.transactions - before) / 2  # it settles, and looks for something to do
    assert 0 < looks <= 200 / 10 + 2
