"""Engines of databases, in SQLite or Postgres, and their transactions."""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

WAIT_S = 10
"""Longest wait for a lock or a connection."""
Prepare = Callable[[DBAPIConnection, object], None]
"""Makes a new connection ready; SQLAlchemy's record of it comes along."""


def create_engine(
    url: str,
    *,
    owner: str,
    file: str,
    statement_s: float = 3 * WAIT_S,
    on_sqlite: Prepare | None = None,
    on_postgres: Prepare | None = None,
    **options: Any,
) -> AsyncEngine:
    """Makes the engine for a URL; `sqlite:` and `postgresql:` take the asynchronous drivers.

    Args:
        url: of the database.
        owner: what lives in it, in messages: "The catalogue".
        file: what its SQLite file is called, in messages.
        statement_s: the longest that Postgres works on one statement.
        on_sqlite: makes each connection ready, beyond what all need.
        on_postgres: the same.
        options: for SQLAlchemy.

    Raises:
        ValueError: it is no URL of a database that can be used; says what is.
    """
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            if not parsed.database or parsed.database == ":memory:":
                raise ValueError(f"{owner} needs a SQLite file: sqlite:///path/of/{file}")
            engine = _sqlite(parsed, parsed.database, options)
            prepare = on_sqlite
        case "postgresql" | "postgres":
            engine = _postgres(parsed, statement_s, options)
            prepare = on_postgres
        case other:
            raise ValueError(f"{owner} can live in SQLite or Postgres, not in {other!r}.")
    if prepare is not None:
        event.listen(engine.sync_engine, "connect", prepare)
    return engine


def _postgres(url: URL, statement_s: float, options: dict[str, Any]) -> AsyncEngine:
    return create_async_engine(
        url.set(drivername="postgresql+asyncpg"),
        pool_pre_ping=True,
        pool_timeout=WAIT_S,
        # Calls are bounded, so a database that hangs makes no handler hang with it.
        connect_args={"timeout": WAIT_S, "command_timeout": statement_s},
        **options,
    )


def _sqlite(url: URL, file: str, options: dict[str, Any]) -> AsyncEngine:
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        url.set(drivername="sqlite+aiosqlite"),
        pool_timeout=WAIT_S,
        connect_args={"timeout": WAIT_S},
        **options,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # The driver begins transactions late and by its own rules; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {WAIT_S * 1000}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
    connection.run_async(_write_ahead)


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    """Turns the write-ahead log on. SQLite's own waiting does not cover this first switch."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await connection.execute("PRAGMA journal_mode = WAL")
                return
            except aiosqlite.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                    raise
            await asyncio.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("penstock_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def is_postgres(engine: AsyncEngine) -> bool:
    """Whether it is Postgres; else SQLite."""
    return engine.dialect.name == "postgresql"


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, write: bool) -> AsyncGenerator[AsyncConnection, None]:
    """Opens a transaction, which commits at the end of the block; one that reads sees one state."""
    async with engine.connect() as connection:
        options: dict[str, Any] = {"penstock_write": write}
        if is_postgres(engine) and not write:
            # One state for every query of the transaction; SQLite's WAL gives it anyway.
            options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        await connection.execution_options(**options)
        async with connection.begin():
            yield connection


def is_away(error: BaseException) -> bool:
    """Whether the database failed to answer, rather than that it refused."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeoutError | OSError):
        return True
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or isinstance(error.orig, TimeoutError)
    )
