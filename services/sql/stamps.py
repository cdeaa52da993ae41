"""Tells cheaply whether a database has changed, for those who look at it again and again."""

import asyncio
import sqlite3
import threading
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from services.sql.engine import is_postgres


class Stamps:
    """Stamps of one database. SQLite has them for microseconds where a transaction takes
    milliseconds (https://sqlite.org/pragma.html#pragma_data_version); Postgres has none."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._file = None if is_postgres(engine) else engine.url.database
        self._connection: sqlite3.Connection | None = None
        self._turn = threading.Lock()

    async def stamp(self) -> int | None:
        """A number that is another once anything was committed; None where nobody can tell."""
        return None if self._file is None else await asyncio.to_thread(self._read)

    def close(self) -> None:
        """Closes the connection that it reads on."""
        with self._turn:
            self._file = None
            if self._connection is not None:
                self._connection.close()

    def _read(self) -> int | None:
        with self._turn:
            if self._file is None:
                return None
            try:
                if self._connection is None:
                    there = f"{Path(self._file).absolute().as_uri()}?mode=rw"
                    self._connection = sqlite3.connect(
                        there, uri=True, timeout=0, check_same_thread=False
                    )
                return self._connection.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error:
                return None
