"""Opens the store that a URL names."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from services.retrieval.indexes.embedded_index import EmbeddedIndex
from services.retrieval.indexes.postgres_index import PostgresIndex
from services.retrieval.store import Store
from services.retrieval.stores.database import Database, create_engine
from services.retrieval.stores.extension import ensure_vectors
from services.retrieval.stores.sql import SqlStore
from services.retrieval.stores.tables import VERSION_TABLE
from services.sql.migrations import Migrations

_MIGRATIONS = Migrations(
    folder=Path(__file__).parent / "migrations",
    version_table=VERSION_TABLE,
    lock=0x70656E7374527472,
    schema="the schema of documents",
)


class StoreSettings(Protocol):
    """What the store takes from the settings."""

    @property
    def index_cache_bytes(self) -> int:
        """Most memory for vectors that are kept beside SQLite."""
        ...


def _now() -> datetime:
    return datetime.now(UTC)


async def open_store(
    url: str, settings: StoreSettings, *, clock: Callable[[], datetime] = _now
) -> Store:
    """Opens the database, makes it where it is missing, and brings its schema up to date.

    Raises:
        ValueError: the URL or the database can't be used; says what to do.
        Unavailable: the database does not answer.
    """
    database = Database(create_engine(url))
    try:
        if database.postgres:
            await ensure_vectors(database)
        async with database.writing() as connection:
            await connection.run_sync(_MIGRATIONS.upgrade)
    except BaseException:
        await database.close()
        raise
    index = PostgresIndex() if database.postgres else EmbeddedIndex(settings.index_cache_bytes)
    return SqlStore(database, index, clock)
