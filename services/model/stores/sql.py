"""The catalogue in SQLite or Postgres."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import URL, Connection, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from services.errors import AlreadyExists, Unavailable
from services.model.stores import migrate
from services.model.stores.tables import CATALOGUE
from services.model.stores.transactions import SqlReading, SqlWriting

_log = logging.getLogger(__name__)
_WAIT_S = 10
"""Longest wait for a lock or a connection."""


class SqlStore:
    """Keeps the catalogue in SQLite or Postgres; see `services.model.store`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._postgres = engine.dialect.name == "postgresql"
        self._turn = asyncio.Lock()

    @classmethod
    async def open(cls, url: str) -> "SqlStore":
        """Opens the database, makes it where it is missing, and brings its schema up to date."""
        store = cls(create_engine(url))
        try:
            async with store._transaction(write=True) as connection:
                await connection.run_sync(migrate.upgrade)
        except BaseException:
            await store.aclose()
            raise
        return store

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[SqlReading, None]:
        """Opens a transaction that reads."""
        async with self._transaction(write=False) as connection:
            yield SqlReading(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[SqlWriting, None]:
        """Opens a transaction that writes; it commits at the end of the block."""
        # The lock spares writers of this process the database's own, less fair, waiting.
        async with self._turn, self._transaction(write=True) as connection:
            if self._postgres:
                await connection.execute(select(CATALOGUE.c.sequence).with_for_update())
            yield SqlWriting(connection)

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, *, write: bool) -> AsyncGenerator[Any, None]:
        with _translated():
            async with self._engine.connect() as connection:
                options: dict[str, Any] = {"penstock_write": write}
                if self._postgres and not write:
                    # One state for every query of the transaction; SQLite's WAL gives it anyway.
                    options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                await connection.execution_options(**options)
                async with connection.begin():
                    yield connection


def create_engine(url: str) -> AsyncEngine:
    """Makes the engine for a URL; `sqlite:` and `postgresql:` take the asynchronous drivers."""
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(parsed.set(drivername="sqlite+aiosqlite"))
        case "postgresql" | "postgres":
            # Calls are bounded, so a database that hangs makes no handler hang with it.
            arguments = {"timeout": _WAIT_S, "command_timeout": 3 * _WAIT_S}
            return create_async_engine(
                parsed.set(drivername="postgresql+asyncpg"),
                pool_pre_ping=True,
                pool_timeout=_WAIT_S,
                connect_args=arguments,
            )
        case other:
            raise ValueError(f"The catalogue lives in SQLite or Postgres, not in {other!r}.")


def _sqlite(url: URL) -> AsyncEngine:
    if not url.database or url.database == ":memory:":
        raise ValueError("The catalogue needs a SQLite file: sqlite:///path/of/model.db")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, pool_timeout=_WAIT_S, connect_args={"timeout": _WAIT_S})
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: DBAPIConnection, _record: object) -> None:
    # The driver begins transactions late and by its own rules; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_S * 1000}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()
    connection.run_async(_write_ahead)


async def _write_ahead(connection: aiosqlite.Connection) -> None:
    """Turns the write-ahead log on. SQLite's own waiting does not cover this first switch."""
    async with asyncio.timeout(_WAIT_S):
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


@contextmanager
def _translated() -> Generator[None, None, None]:
    try:
        yield
    except IntegrityError as error:
        _log.warning("a write clashed with another", exc_info=error)
        raise AlreadyExists("This ID or alias was taken a moment ago. Choose another.") from error
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise _away(error) from error
    except DBAPIError as error:
        if error.connection_invalidated or isinstance(error.orig, TimeoutError):
            raise _away(error) from error
        raise


def _away(error: BaseException) -> Unavailable:
    _log.error("the catalogue's database failed", exc_info=error)
    return Unavailable("The catalogue's database does not answer. Try again.", retry_after_s=1)
