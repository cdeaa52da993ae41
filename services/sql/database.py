"""A service's database: its transactions, and its failures as errors of the domain."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.errors import StorageFull, Unavailable
from services.sql.engine import create_engine, is_away, is_postgres, transaction
from services.sql.stamps import Stamps

_log = logging.getLogger(__name__)
_DISK_FULL = "53100"


class Database:
    """Opens transactions.

    Where the database does not answer, they raise `Unavailable`; where its disk is full,
    `StorageFull`.
    """

    def __init__(self, url: str, *, holds: str, file: str) -> None:
        """Makes the engine for a URL. Raises `ValueError` where it can't be used.

        Args:
            url: of the database.
            holds: what is in it, in messages: "training".
            file: what its SQLite file is called, in messages.
        """
        self._engine = create_engine(url, owner=f"The store of {holds}", file=file)
        self._holds = holds
        self.postgres = is_postgres(self._engine)
        self._stamps = Stamps(self._engine)
        self.stamp = self._stamps.stamp
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def reading(self) -> AsyncGenerator[AsyncConnection, None]:
        """Opens a transaction that reads one state."""
        with self._translated():
            async with transaction(self._engine, write=False) as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncGenerator[AsyncConnection, None]:
        """Opens a transaction that writes; it commits at the end of the block."""
        with self._translated():
            if self.postgres:
                async with transaction(self._engine, write=True) as connection:
                    yield connection
                return
            # The lock spares writers of this process SQLite's own, less fair, waiting.
            async with self._turn, transaction(self._engine, write=True) as connection:
                yield connection

    async def close(self) -> None:
        """Closes every connection."""
        self._stamps.close()
        await self._engine.dispose()

    @contextmanager
    def _translated(self) -> Generator[None, None, None]:
        try:
            yield
        except Exception as error:
            if _is_full(error):
                _log.error("the disk of the %s database is full", self._holds, exc_info=error)
                raise StorageFull(
                    f"The disk of the {self._holds} database is full. Have the operator make room."
                ) from error
            if not is_away(error):
                raise
            _log.error("the database of %s failed", self._holds, exc_info=error)
            raise Unavailable(
                f"The database of {self._holds} does not answer. Try again.", retry_after_s=1
            ) from error


def _is_full(error: Exception) -> bool:
    if not isinstance(error, DBAPIError):
        return False
    if getattr(error.orig, "sqlstate", None) == _DISK_FULL:
        return True
    # SQLAlchemy wraps the driver's error, which wraps SQLite's.
    causes = (error.orig, getattr(error.orig, "__cause__", None))
    return any(getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL for cause in causes)
