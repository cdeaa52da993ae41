"""Brings a database's schema up to date, at every start."""

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from services.model.stores.tables import VERSION_TABLE

_log = logging.getLogger(__name__)
# Any constant: names the lock that starting processes take turns on.
_LOCK = 0x70656E73746F636B


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    folder = Path(__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection) -> None:
    """Applies every migration that is missing, within the connection's transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    # Alembic tells of every step of its own; one line is enough.
    logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
    before = MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()
    if before == head():
        return
    if before is not None and before not in {step.revision for step in _steps().walk_revisions()}:
        raise ValueError(f"its schema, {before}, is of a later release of Penstock than this one.")
    command.upgrade(_config(connection), "head")
    _log.info("the catalogue's schema went from %s to %s", before or "nothing", head())


def head() -> str | None:
    """Returns the schema version that this code needs."""
    return _steps().get_current_head()


def _steps() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
