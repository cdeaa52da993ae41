"""The store alone: schema, transactions, failures."""

import asyncio
import contextlib
import importlib.util
import sqlite3
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import settings
from sqlalchemy import text

from services.errors import AlreadyExists, Unavailable
from services.model.records import Entry, ModelConfig, ModelKind, Revision
from services.model.stores.sql import SqlStore
from services.model.stores.tables import METADATA, VERSION_TABLE
from services.sql.engine import create_engine

NOW = datetime(2026, 1, 1, 12, 30, 1, 234567, tzinfo=UTC)


def entry(model_id: str, **changes) -> Entry:
    plain = Entry(
        id=model_id,
        uid=str(uuid.uuid4()),
        kind=ModelKind.CHAT,
        display_name="Ünï 漢字 🙂",
        owned_by="penstock",
        base_model="",
        aliases=(),
        revision=Revision(model_id, 1, "/w", NOW),
        config=ModelConfig(stop=("a", "b"), system_prompt="\n"),
        config_version=2**40,
        seed="",
        stopped=False,
        first_revision=1,
        create_time=NOW,
        update_time=NOW,
    )
    return replace(plain, **changes)


async def test_what_is_put_comes_back(store):
    wanted = entry("a", aliases=("y", "x"))
    async with store.writing() as tx:
        await tx.put(wanted)
    async with store.reading() as tx:
        assert await tx.entries() == [wanted]
        assert await tx.resolve("x") == "a"


async def test_migrations_make_the_schema_that_the_tables_say(new_database_url):
    await (await SqlStore.open(new_database_url)).aclose()
    engine = create_engine(new_database_url, owner="The catalogue", file="model.db")

    def differences(connection):
        context = MigrationContext.configure(
            connection, opts={"version_table": VERSION_TABLE, "compare_type": False}
        )
        return compare_metadata(context, METADATA)

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_ids_come_by_code_point(store):
    names = ["b", "B", "a", "_", "a/b", "a-b", "é", "10", "9"]
    async with store.writing() as tx:
        for name in names:
            await tx.put(entry(name))
    async with store.reading() as tx:
        assert [found.id for found in await tx.entries()] == sorted(names)
        assert [found.id for found in await tx.entries(after="a", limit=2)] == ["a-b", "a/b"]


async def test_opening_at_once(new_database_url):
    stores = await asyncio.gather(*(SqlStore.open(new_database_url) for _ in range(4)))
    async with stores[0].writing() as tx:
        await tx.put(entry("a"))
    async with stores[3].reading() as tx:
        assert len(await tx.entries()) == 1
    for store in stores:
        await store.aclose()


async def test_opening_waits_for_a_writer_of_a_new_file(tmp_path):
    path = tmp_path / "model.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")  # before the write-ahead log is on, this locks all out
        opening = asyncio.create_task(SqlStore.open(f"sqlite:///{path}"))
        await asyncio.wait([opening], timeout=0.3)
        assert not opening.done()
        other.execute("ROLLBACK")
        await (await opening).aclose()


async def test_a_failed_transaction_leaves_nothing(store):
    async def fail():
        async with store.writing() as tx:
            await tx.record(entry("a"), NOW)
            await tx.put(entry("a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail()
    async with store.reading() as tx:
        assert await tx.entries() == []
        assert await tx.changes(0, 10) == []


async def test_a_cancelled_transaction_leaves_nothing_and_blocks_nobody(store):
    entered = asyncio.Event()

    async def write():
        async with store.writing() as tx:
            await tx.put(entry("a"))
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with store.writing() as tx:
        assert await tx.entries() == []
        await tx.put(entry("b"))


async def test_transactions_cancelled_anywhere_leave_nothing_and_block_nobody(database_url, store):
    async def write():
        async with store.writing() as tx:
            for at in range(3):
                await tx.record(entry(f"a{at}"), NOW)
                await tx.put(entry(f"a{at}"))

    async def read():
        async with store.reading() as tx:
            await tx.entries()
            await tx.sequence()

    async with contextlib.aclosing(await SqlStore.open(database_url)) as other:
        for turns in range(60):
            for work in (write, read):
                task = asyncio.create_task(work())
                for _ in range(turns):
                    await asyncio.sleep(0.0002 if turns % 2 else 0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                async with other.writing() as tx:  # would wait for a lock that nobody gives back
                    found = await tx.entries()
                    assert len(found) in {0, 3}
                    for each in found:
                        await tx.remove(each)


@pytest.mark.parametrize("closes_first", [False, True])
async def test_a_writer_that_is_cancelled_while_it_waits_keeps_no_lock(tmp_path, closes_first):
    """SQLite waits for the lock in a thread, which goes on, and gets it with nobody there."""
    path = tmp_path / "model.db"
    store = await SqlStore.open(f"sqlite:///{path}")

    async def write():
        async with store.writing():
            pass

    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(write())
        await asyncio.wait([writing], timeout=0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        if closes_first:
            closing = asyncio.create_task(store.aclose())
            await asyncio.wait([closing], timeout=0.1)
            assert not closing.done()  # it waits for the thread
            other.execute("ROLLBACK")
            await closing
        else:
            other.execute("ROLLBACK")
            await write()
            await store.aclose()
        other.execute("BEGIN IMMEDIATE")


async def test_a_name_that_is_taken(store):
    async with store.writing() as tx:
        await tx.put(entry("a", aliases=("x",)))
    with pytest.raises(AlreadyExists):
        async with store.writing() as tx:
            await tx.put(entry("b", aliases=("x",)))
    async with store.reading() as tx:
        assert [found.id for found in await tx.entries()] == ["a"]


async def test_a_reader_sees_one_state(store):
    async with store.reading() as tx:
        before = await tx.sequence()
        async with store.writing() as other:
            await other.record(entry("a"), NOW)
            await other.put(entry("a"))
        assert await tx.sequence() == before
        assert await tx.entries() == []


async def test_sequences_are_serial_over_processes(database_url):
    async with (
        contextlib.aclosing(await SqlStore.open(database_url)) as one,
        contextlib.aclosing(await SqlStore.open(database_url)) as two,
    ):

        async def write(store):
            async with store.writing() as tx:
                return await tx.record(entry("a"), NOW)

        numbers = await asyncio.gather(*(write(s) for s in (one, two) * 5))
        first = min(numbers)
        assert sorted(numbers) == list(range(first, first + 10))


async def test_a_new_catalogue_counts_on_from_the_future_of_an_old_one(tmp_path):
    sequences = []
    for name in ("old.db", "new.db"):
        async with (
            contextlib.aclosing(await SqlStore.open(f"sqlite:///{tmp_path / name}")) as store,
            store.writing() as tx,
        ):
            sequences.append(await tx.record(entry("a"), NOW))
        await asyncio.sleep(0.01)
    assert sequences[0] < sequences[1]


async def test_a_database_that_is_away(tmp_path):
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(Unavailable):
        await SqlStore.open(f"sqlite:///{tmp_path / 'folder.db'}")
    with pytest.raises(Unavailable):
        await SqlStore.open(f"postgresql://postgres@/x?host={tmp_path}")
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://x/y"):
        with pytest.raises(ValueError, match="catalogue"):
            await SqlStore.open(url)


async def test_a_database_that_breaks_meanwhile_and_comes_back(postgres, store, database_url):
    if not database_url.startswith("postgresql"):
        pytest.skip("only servers come and go")
    async with store.writing() as tx:
        await tx.put(entry("a"))
    engine = create_engine(database_url, owner="The catalogue", file="model.db")
    async with engine.connect() as connection:
        await connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    await engine.dispose()
    async with store.reading() as tx:
        assert len(await tx.entries()) == 1


async def test_a_schema_of_a_later_release_is_refused(database_url, store):
    engine = create_engine(database_url, owner="The catalogue", file="model.db")
    async with engine.begin() as connection:
        await connection.execution_options(penstock_write=True)
        await connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '9999'"))
    await engine.dispose()
    with pytest.raises(ValueError, match="later release"):
        await SqlStore.open(database_url)


def machine():
    path = Path(__file__).parents[2] / "unit" / "model" / "test_model_catalog_machine.py"
    spec = importlib.util.spec_from_file_location("model_catalog_machine", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_catalogue_machine_on_postgres(postgres):
    """The state machine of the unit tests, on Postgres."""
    module = machine()

    async def admin(statement: str) -> None:
        connection = await asyncpg.connect(host=postgres, user="postgres", database="postgres")
        await connection.execute(statement)
        await connection.close()

    class PostgresMachine(module.CatalogMachine):
        async def make_database(self) -> str:
            self.name = f"h{uuid.uuid4().hex}"
            await admin(f'CREATE DATABASE "{self.name}"')
            return f"postgresql://postgres@/{self.name}?host={postgres}"

        async def drop_database(self) -> None:
            await admin(f'DROP DATABASE "{self.name}"')

    case = PostgresMachine.TestCase
    case.settings = settings(module.TestCatalog.settings, max_examples=5, stateful_step_count=25)
    case().runTest()
