"""Brings a database's schema up to date, at every start."""

import logging
from dataclasses import dataclass
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migrations:
    """The migrations of one service."""

    folder: Path
    """Alembic's: `env.py` and `versions`."""
    version_table: str
    lock: int
    """Any constant of the service: names the lock that starting processes take turns on."""
    schema: str
    """What it is called in the log, such as "the catalogue's schema"."""

    def upgrade(self, connection: Connection) -> None:
        """Applies every migration that is missing, within the connection's transaction.

        Raises:
            ValueError: the schema is of a later release.
        """
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": self.lock})
        # Alembic tells of every step of its own; one line is enough.
        logging.getLogger("alembic.runtime.migration").setLevel(logging.WARNING)
        before = MigrationContext.configure(
            connection, opts={"version_table": self.version_table}
        ).get_current_revision()
        config = self._config(connection)
        steps = ScriptDirectory.from_config(config)
        head = steps.get_current_head()
        if before == head:
            return
        if before is not None and before not in {step.revision for step in steps.walk_revisions()}:
            raise ValueError(
                f"its schema, {before}, is of a later release of Penstock than this one."
            )
        command.upgrade(config, "head")
        _log.info("%s went from %s to %s", self.schema, before or "nothing", head)

    def _config(self, connection: Connection) -> Config:
        config = Config()
        config.set_main_option("script_location", str(self.folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        return config
