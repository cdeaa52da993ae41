"""Connections and transactions, in SQLite or Postgres."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

import orjson
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.errors import NotFound, Unavailable
from services.retrieval.indexes.postgres_types import prepare_vectors
from services.retrieval.stores.canonical import canonical
from services.retrieval.stores.functions import add_functions
from services.sql import engine
from services.sql.engine import is_away, is_postgres, transaction

_log = logging.getLogger(__name__)
_STATEMENT_S = 300
"""Longest statement: an approximate index of a large collection takes minutes."""
_NO_TABLE = "42P01"
_GONE = re.compile("no such table: (main\\.)?retrieval_(chunks|words|removals)_")


class Database:
    """Opens transactions."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self.postgres = is_postgres(engine)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        """Opens a transaction that reads one state."""
        async with self._transaction(write=False) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """Opens a transaction that writes; it commits at the end of the block."""
        if self.postgres:
            async with self._transaction(write=True) as connection:
                yield connection
            return
        # The lock spares writers of this process SQLite's own, less fair, waiting.
        async with self._turn, self._transaction(write=True) as connection:
            yield connection

    async def close(self) -> None:
        """Closes every connection."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _transaction(self, *, write: bool) -> AsyncGenerator[AsyncConnection, None]:
        with _translated():
            async with transaction(self._engine, write=write) as connection:
                yield connection


def create_engine(url: str) -> AsyncEngine:
    """Makes the engine for a URL. Raises `ValueError` where it can't be used."""
    return engine.create_engine(
        url,
        owner="The store of documents",
        file="retrieval.db",
        statement_s=_STATEMENT_S,
        on_sqlite=_add_functions,
        on_postgres=prepare_vectors,
        json_serializer=canonical,
        json_deserializer=orjson.loads,
    )


def _add_functions(connection: DBAPIConnection, _record: object) -> None:
    add_functions(connection)


@contextmanager
def _translated() -> Generator[None, None, None]:
    try:
        yield
    except Exception as error:
        if isinstance(error, DBAPIError) and _dropped(error):
            raise NotFound("The collection was deleted.") from error
        if not is_away(error):
            raise
        _log.error("the database of documents failed", exc_info=error)
        raise Unavailable(
            "The database of documents does not answer. Try again.", retry_after_s=1
        ) from error


def _dropped(error: DBAPIError) -> bool:
    """Whether a table of chunks was dropped while a transaction was on its way to it."""
    if getattr(error.orig, "sqlstate", None) == _NO_TABLE:
        return True
    return bool(_GONE.search(str(error.orig)))
