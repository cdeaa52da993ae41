"""Sees that Postgres can keep vectors."""

from sqlalchemy import DDL, text
from sqlalchemy.exc import DBAPIError

from services.retrieval.stores.database import Database

_OLDEST = (0, 8)
_LOCK = 0x70656E7374766563
"""Any constant: names the lock that starting processes take turns on."""


async def ensure_vectors(database: Database) -> None:
    """Installs pgvector into the database where it is missing.

    Raises:
        ValueError: it can't be installed, or is too old; says what to do.
    """
    try:
        async with database.writing() as connection:
            encoding = await connection.scalar(text("SHOW server_encoding"))
            if encoding != "UTF8":
                raise ValueError(
                    f"The database's encoding is {encoding}; make one with ENCODING 'UTF8'."
                )
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.execute(DDL("CREATE EXTENSION IF NOT EXISTS vector"))
            version = await connection.scalar(
                text("SELECT extversion FROM pg_extension WHERE extname = 'vector'")
            )
    except DBAPIError as error:
        raise ValueError(
            "Documents need the extension pgvector in this database. Install pgvector on the "
            "server (https://github.com/pgvector/pgvector), and have a superuser run there: "
            "CREATE EXTENSION vector;"
        ) from error
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        raise ValueError(
            f"The database has pgvector {version}; 0.8 or newer is needed. Install it on the "
            "server, and have a superuser run there: ALTER EXTENSION vector UPDATE;"
        )
    # Connections learn the types when they open.
    await database.close()
