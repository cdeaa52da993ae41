"""The catalogue in SQLite or Postgres."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import cast

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.errors import AlreadyExists, Unavailable
from services.model.stores.tables import CATALOGUE, VERSION_TABLE
from services.model.stores.transactions import Execute, SqlReading, SqlWriting
from services.sql.engine import create_engine, is_away, is_postgres, transaction
from services.sql.migrations import Migrations
from services.sql.shield import Shield
from services.sql.stamps import Stamps

_log = logging.getLogger(__name__)
_MIGRATIONS = Migrations(
    folder=Path(__file__).parent / "migrations",
    version_table=VERSION_TABLE,
    lock=0x70656E73746F636B,
    schema="the catalogue's schema",
)
_Transaction = tuple[AsyncConnection, Shield]
"""Its connection, and the shield that its calls are made through."""


class SqlStore:
    """Keeps the catalogue in SQLite or Postgres; see `services.model.store`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._shield = Shield()
        self._stamps = Stamps(engine)
        self.stamp = self._stamps.stamp

    @classmethod
    async def open(cls, url: str) -> "SqlStore":
        """Opens the database, makes it where it is missing, and brings its schema up to date."""
        store = cls(create_engine(url, owner="The catalogue", file="model.db"))
        try:
            async with store._transaction(write=True) as (connection, calls):
                await calls.around(connection.run_sync)(_MIGRATIONS.upgrade)
        except BaseException:
            await store.aclose()
            raise
        return store

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[SqlReading, None]:
        """Opens a transaction that reads."""
        async with self._transaction(write=False) as held:
            yield SqlReading(_execute(*held))

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[SqlWriting, None]:
        """Opens a transaction that writes; it commits at the end of the block."""
        # The lock spares writers of this process the database's own, less fair, waiting.
        async with self._turn, self._transaction(write=True) as held:
            execute = _execute(*held)
            if is_postgres(self._engine):
                await execute(select(CATALOGUE.c.sequence).with_for_update())
            yield SqlWriting(execute)

    @property
    def is_postgres(self) -> bool:
        """Whether it is Postgres; else SQLite."""
        return is_postgres(self._engine)

    @asynccontextmanager
    async def executing(self, *, write: bool) -> AsyncGenerator[Execute, None]:
        """Opens a transaction on tables that are no part of the catalogue; gives what executes its
        statements. It commits at the end of the block."""
        async with contextlib.AsyncExitStack() as stack:
            if write and not self.is_postgres:
                await stack.enter_async_context(self._turn)
            yield _execute(*await stack.enter_async_context(self._transaction(write=write)))

    async def aclose(self) -> None:
        """Closes every connection."""
        await self._shield.finish()
        self._stamps.close()
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, *, write: bool) -> AsyncGenerator[_Transaction, None]:
        with _translated():
            async with self._shield.holding(transaction(self._engine, write=write)) as held:
                yield held


def _execute(connection: AsyncConnection, calls: Shield) -> Execute:
    return calls.around(cast("Execute", connection.execute))


@contextmanager
def _translated() -> Generator[None, None, None]:
    try:
        yield
    except IntegrityError as error:
        _log.warning("a write clashed with another", exc_info=error)
        raise AlreadyExists("This ID or alias was taken a moment ago. Choose another.") from error
    except Exception as error:
        if not is_away(error):
            raise
        _log.error("the catalogue's database failed", exc_info=error)
        raise Unavailable(
            "The catalogue's database does not answer. Try again.", retry_after_s=1
        ) from error
