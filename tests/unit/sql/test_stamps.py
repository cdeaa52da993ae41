"""A stamp is another after every commit, whoever made it, and the same until then."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from services.sql.engine import create_engine, transaction
from services.sql.stamps import Stamps


@pytest.fixture
async def opened(tmp_path: Path):
    """An engine on a file with a table, and its stamps."""
    engine = create_engine(f"sqlite:///{tmp_path}/a b.db", owner="A test", file="a.db")
    async with transaction(engine, write=True) as connection:
        await connection.execute(text("CREATE TABLE t (n INTEGER)"))
    with contextlib.closing(Stamps(engine)) as stamps:
        yield engine, stamps
    await engine.dispose()


async def test_commits_of_this_process_change_it(opened) -> None:
    engine, stamps = opened
    seen = [await stamps.stamp()]
    for number in range(3):
        async with transaction(engine, write=True) as connection:
            await connection.execute(text(f"INSERT INTO t VALUES ({number})"))
        seen.append(await stamps.stamp())
        assert await stamps.stamp() == seen[-1]
    assert None not in seen
    assert len(set(seen)) == 4


async def test_commits_of_other_processes_change_it(opened) -> None:
    engine, stamps = opened
    before = await stamps.stamp()
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    insert = "INSERT INTO t VALUES (7)"
    command = [sys.executable, "-c", program, engine.url.database, insert]
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert await stamps.stamp() != before


async def test_what_commits_nothing_leaves_it(opened) -> None:
    engine, stamps = opened
    before = await stamps.stamp()
    async with transaction(engine, write=False) as connection:
        await connection.execute(text("SELECT * FROM t"))
    async with transaction(engine, write=True) as connection:
        await connection.execute(text("UPDATE t SET n = 1 WHERE n = 99"))
    with contextlib.suppress(ZeroDivisionError):
        async with transaction(engine, write=True) as connection:
            await connection.execute(text("INSERT INTO t VALUES (1)"))
            raise ZeroDivisionError
    assert await stamps.stamp() == before


async def test_it_waits_for_no_writer(opened) -> None:
    engine, stamps = opened
    before = await stamps.stamp()
    async with transaction(engine, write=True) as connection:
        await connection.execute(text("INSERT INTO t VALUES (1)"))
        assert await stamps.stamp() == before
    assert await stamps.stamp() != before


async def test_many_ask_at_once(opened) -> None:
    _, stamps = opened
    assert len(set(await asyncio.gather(*(stamps.stamp() for _ in range(50))))) == 1


async def test_where_nobody_can_tell_there_is_none(tmp_path: Path) -> None:
    postgres = create_engine("postgresql://nobody@127.0.0.1:1/x", owner="A test", file="a.db")
    assert await Stamps(postgres).stamp() is None
    missing = tmp_path / "missing.db"
    engine = create_engine(f"sqlite:///{missing}", owner="A test", file="a.db")
    stamps = Stamps(engine)
    assert await stamps.stamp() is None
    assert not missing.exists(), "asking made the file"
    with contextlib.closing(sqlite3.connect(missing)) as made:
        made.execute("CREATE TABLE t (n INTEGER)")
    assert await stamps.stamp() is not None
    stamps.close()
    assert await stamps.stamp() is None
