"""Opens the store that a URL names."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from services.sql.database import Database
from services.sql.migrations import Migrations
from services.training.clock import utc_now
from services.training.stores.batches import SqlBatches
from services.training.stores.files import SqlFiles
from services.training.stores.jobs import SqlJobs
from services.training.stores.tables import VERSION_TABLE

_MIGRATIONS = Migrations(
    folder=Path(__file__).parent / "migrations",
    version_table=VERSION_TABLE,
    lock=0x70656E737454726E,
    schema="the schema of training",
)


@dataclass(frozen=True, slots=True)
class Store:
    """Files, jobs and batches, in one database."""

    files: SqlFiles
    jobs: SqlJobs
    batches: SqlBatches
    database: Database

    async def close(self) -> None:
        """Lets go of the database."""
        await self.files.finish()
        await self.jobs.finish()
        await self.batches.finish()
        await self.database.close()


async def open_store(url: str, *, clock: Callable[[], datetime] = utc_now) -> Store:
    """Opens the database, makes it where it is missing, and brings its schema up to date.

    Raises:
        ValueError: the URL or the database can't be used; says what to do.
        Unavailable: the database does not answer.
    """
    database = Database(url, holds="training", file="training.db")
    try:
        async with database.writing() as connection:
            await connection.run_sync(_MIGRATIONS.upgrade)
    except BaseException:
        await database.close()
        raise
    return Store(
        SqlFiles(database, clock),
        SqlJobs(database, clock),
        SqlBatches(database, clock),
        database,
    )
