"""The database of responses."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from services.inference.response_stores.tables import VERSION_TABLE
from services.sql import database
from services.sql.migrations import Migrations

_MIGRATIONS = Migrations(
    folder=Path(__file__).parent / "migrations",
    version_table=VERSION_TABLE,
    lock=0x70656E73745265,
    schema="the schema of responses",
)


class Database(database.Database):
    """Opens transactions. The schema is brought up to date before the first."""

    def __init__(self, url: str) -> None:
        """Makes the engine for a URL. Raises `ValueError` where it can't be used."""
        super().__init__(url, holds="responses", file="inference.db")
        self._preparing = asyncio.Lock()
        self._ready = False

    async def prepare(self) -> None:
        """Makes the database where it is missing, and brings its schema up to date, once.

        Raises:
            ValueError: the schema is of a later release.
            Unavailable: the database does not answer.
        """
        async with self._preparing:
            if not self._ready:
                async with super().writing() as connection:
                    await connection.run_sync(_MIGRATIONS.upgrade)
                self._ready = True

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        """Opens a transaction that reads one state."""
        if not self._ready:
            await self.prepare()
        async with super().reading() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """Opens a transaction that writes; it commits at the end of the block."""
        if not self._ready:
            await self.prepare()
        async with super().writing() as connection:
            yield connection
