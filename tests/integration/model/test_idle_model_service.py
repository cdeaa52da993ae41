"""A service with nothing to do asks SQLite for nothing, and still hears of what others change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from services.model import key_feed, watches
from services.model.catalog import Catalog
from services.model.key_feed import KeyFeed
from services.model.key_records import Key
from services.model.records import ModelKind
from services.model.reports import Reports
from services.model.seeds import Seed, plant
from services.model.stores import sql
from services.model.stores.keys import SqlKeys
from services.model.stores.sql import SqlStore
from services.model.watches import ChangeFeed, keep
from services.training.clock import utc_now


@dataclass
class Idle:
    """What follows a catalogue and its keys; how often it looked, and how many transactions it
    began."""

    store: SqlStore
    feed: ChangeFeed
    keys: KeyFeed
    looks: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    transactions: int = 0

    async def looked(self, times: int) -> None:
        """Waits for so many more looks."""
        while not self.looks.empty():
            self.looks.get_nowait()
        for _ in range(times):
            await asyncio.wait_for(self.looks.get(), 60)


@pytest.fixture
async def idle(tmp_path, monkeypatch) -> AsyncIterator[Idle]:
    monkeypatch.setattr(watches, "POLL_S", 0.01)
    monkeypatch.setattr(key_feed, "POLL_S", 0.01)
    async with contextlib.aclosing(await SqlStore.open(f"sqlite:///{tmp_path}/m.db")) as store:
        feed = ChangeFeed()
        catalog = Catalog(store)
        plainly, stamp = sql.transaction, store.stamp

        def counted(*args, **kwargs):
            made.transactions += 1
            return plainly(*args, **kwargs)

        async def looked() -> int | None:
            made.looks.put_nowait(None)
            return await stamp()

        monkeypatch.setattr(sql, "transaction", counted)
        store.stamp = looked
        made = Idle(store, feed, KeyFeed(SqlKeys(store)))
        tasks = [
            asyncio.create_task(work)
            for work in (keep(catalog, Reports(catalog), feed), made.keys.run())
        ]
        yield made
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_nothing_is_read_while_nothing_changes(idle):
    await idle.looked(20)
    before = idle.transactions
    await idle.looked(100)
    assert idle.transactions == before


async def test_what_another_process_changes_is_heard(idle, tmp_path):
    await idle.looked(20)
    async with contextlib.aclosing(await SqlStore.open(f"sqlite:///{tmp_path}/m.db")) as other:
        for count in (1, 2, 3):
            await plant(Catalog(other), [Seed(f"m{i}", "/m", ModelKind.CHAT) for i in range(count)])
            async with SqlKeys(other).writing() as tx:
                await tx.put(Key(f"k{count}", f"{count:064x}", "", (), utc_now()))
            async with other.reading() as tx:
                sequence = await tx.sequence()
            async with asyncio.timeout(60):
                while idle.feed.latest < sequence or len(idle.keys._keys) < count:
                    await idle.looked(1)


async def test_what_could_not_be_read_is_read_again(idle, tmp_path, monkeypatch, caplog):
    await idle.looked(20)
    broken = True
    plainly = sql.transaction

    def failing(*args, **kwargs):
        if broken:
            raise OSError("the disk is away")
        return plainly(*args, **kwargs)

    other = await SqlStore.open(f"sqlite:///{tmp_path}/m.db")
    async with contextlib.aclosing(other), SqlKeys(other).writing() as tx:
        monkeypatch.setattr(sql, "transaction", failing)
        await tx.put(Key("k", "0" * 64, "", (), utc_now()))
    await idle.looked(20)
    assert "keys could not be read" in caplog.text
    assert not idle.keys._keys
    broken = False
    async with asyncio.timeout(60):
        while not idle.keys._keys:
            await idle.looked(1)
